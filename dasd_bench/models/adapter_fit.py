"""Whether an adapter from elsewhere fits a base model: checked tensor by tensor before any weights are loaded."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dasd_bench.errors import ModelError
from dasd_bench.files.text import shown
from dasd_bench.models.files import read_safetensors_header
from dasd_bench.models.gguf import quiet_transformers
from dasd_bench.models.load import adapter_config, auto_class, check_adapter, config_of, reason

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What an adapter folder says of itself. ``sha256`` is over its configuration and its weights."""

    sha256: str
    base: str
    rank: int
    alpha: float
    targets: tuple[str, ...]

    def line(self) -> str:
        """``LoRA r=8 alpha=16 on q_proj, v_proj``."""
        return f"LoRA r={self.rank} alpha={self.alpha:g} on {', '.join(self.targets)}"


def adapter_facts(folder: Path) -> AdapterFacts:
    """Reads an adapter folder. Raises :class:`ModelError` where it is none, or of a kind that is not evaluated."""
    config = adapter_config(folder)
    kind = str(config.get("peft_type", ""))
    if kind.upper() != "LORA":
        raise ModelError(f"Adapter '{folder}' is of the type {kind or 'unknown'}; only LoRA adapters can be evaluated.")
    for field, what in (
        ("modules_to_save", "trains whole modules"),
        ("trainable_token_indices", "trains embeddings of single tokens"),
        ("lora_bias", "has biases in its LoRA layers"),
    ):
        if config.get(field):
            raise ModelError(
                f"Adapter '{folder}' {what} ({field} in {CONFIG}), which is not supported: merge it into its base and "
                "give the merged folder to --model."
            )
    rank, alpha, targets = config.get("r"), config.get("lora_alpha"), config.get("target_modules")
    named = (targets,) if isinstance(targets, str) else tuple(sorted(map(str, targets or ())))
    if not isinstance(rank, int) or not isinstance(alpha, (int, float)) or not named:
        raise ModelError(f"{folder / CONFIG}: r, lora_alpha and target_modules must be set; copy the adapter again.")
    return AdapterFacts(_sha256(folder), str(config.get("base_model_name_or_path") or ""), rank, float(alpha), named)


def _sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def check_fit(adapter: Path, base: Path, name: str) -> None:
    """Compares the adapter's tensors with those that PEFT would make for the base model in ``base``, called ``name``.

    Raises :class:`ModelError` for a layer, a width, a rank or a target module that does not match: PEFT itself ignores
    tensors that its configuration does not name, and would evaluate a part of the adapter.
    """
    import torch
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    with quiet_transformers(), torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = auto_class(base).from_config(config_of(base))
        except ModelError:
            raise
        except Exception as error:  # a configuration can make transformers fail in any way
            raise ModelError(f"'{base}' has a configuration that cannot be used: {reason(error)}") from error
        check_adapter(adapter, model, name)
        try:
            tuned: Any = get_peft_model(model, LoraConfig.from_pretrained(str(adapter)))
            made = get_peft_model_state_dict(tuned, save_embedding_layers=False)
        except Exception as error:  # an adapter's configuration can make peft fail in any way
            raise ModelError(f"Adapter '{adapter}' does not fit '{name}': {reason(error)}") from error
    wanted = {key: list(tensor.shape) for key, tensor in made.items()}
    found = {key: list(entry["shape"]) for key, entry in read_safetensors_header(adapter / WEIGHTS).items()}
    fault = _first_difference(found, wanted)
    if fault:
        raise ModelError(f"Adapter '{adapter}' contradicts its {CONFIG}: {fault}; export the adapter again.")


def _first_difference(found: Mapping[str, list[int]], wanted: Mapping[str, list[int]]) -> str:
    """The first way in which the file differs from what its configuration promises, as a clause; empty for none."""
    for key in sorted(found.keys() | wanted.keys()):
        if key not in wanted:
            return f"it has weights for '{shown(key)}', which target_modules does not name"
        if key not in found:
            return f"target_modules names '{key}', for which it has no weights"
        if found[key] != wanted[key]:
            return f"'{key}' has the shape {found[key]}, where r and target_modules give {wanted[key]}"
    return ""
