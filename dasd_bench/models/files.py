"""Model folders on disk: where the user cache is, whether a folder holds a whole model, and its hash.

A hash is computed once: what was hashed is remembered with size and modification time, so that a second start reads
no weights.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dasd_bench.console import Console
from dasd_bench.errors import ModelError, StoreError
from dasd_bench.store.atomic import write_json

TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)
CONFIG_FILES = ("config.json", "generation_config.json")
HUB_PATTERNS = ("*.safetensors", "*.safetensors.index.json", *CONFIG_FILES, *TOKENIZER_FILES)
_CHUNK = 1 << 20


def user_cache_dir() -> Path:
    """``DASD_CACHE_DIR``, else ``dasd-bench`` in the XDG cache folder."""
    named = os.environ.get("DASD_CACHE_DIR")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dasd-bench"


def missing_parts(folder: Path) -> str | None:
    """What a model folder lacks (config, safetensors weights, a shard, a tokenizer), in words; None when whole."""
    if not (folder / "config.json").is_file():
        return "config.json"
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError):
            return "readable model.safetensors.index.json"
        for shard in sorted(shards):
            if not (folder / shard).is_file():
                return str(shard)
    elif not any(folder.glob("*.safetensors")):
        return "weights as safetensors"
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        return "tokenizer (tokenizer.json)"
    return None


def model_files(folder: Path) -> list[Path]:
    """The files that decide what the model computes, sorted by name: weights, configurations, tokenizer."""
    names = {*CONFIG_FILES, *TOKENIZER_FILES}
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names |= {index.name, *json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    else:
        names |= {path.name for path in folder.glob("*.safetensors")}
    return [folder / name for name in sorted(names) if (folder / name).is_file()]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class HashNote:
    """What is remembered of one hashed file."""

    size: int
    mtime_ns: int
    sha256: str


class HashNotes:
    """Remembers file hashes in ``<cache_dir>/hashes``, one small JSON file per folder or GGUF file."""

    def __init__(self, cache_dir: Path, console: Console) -> None:
        self._folder = cache_dir / "hashes"
        self._console = console

    def folder_sha256(self, folder: Path) -> str:
        """Hash of a model: SHA-256 over the sorted names and hashes of its files."""
        hashes = self.files(folder, model_files(folder))
        lines = "".join(f"{name} {digest}\n" for name, digest in sorted(hashes.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def file(self, path: Path) -> str:
        """Hash of a single file."""
        return self.files(path, [path])[path.name]

    def files(self, key: Path, paths: list[Path]) -> dict[str, str]:
        """Hashes by file name; only files whose size or modification time changed are read."""
        note = self._folder / f"{hashlib.sha256(str(key.resolve()).encode()).hexdigest()[:32]}.json"
        known = _read_notes(note)
        fresh: dict[str, HashNote] = {}
        for path in paths:
            status = path.stat()
            old = known.get(path.name)
            if old is not None and (old.size, old.mtime_ns) == (status.st_size, status.st_mtime_ns):
                fresh[path.name] = old
                continue
            blob = path.resolve().name
            if re.fullmatch(r"[0-9a-f]{64}", blob):
                # The hub cache names the blob of a large file by its SHA-256.
                digest = blob
            else:
                if status.st_size > 1 << 30:
                    self._console.say(f"Hashing {path.name} ({format_bytes(status.st_size)}), once.")
                digest = file_sha256(path)
            fresh[path.name] = HashNote(status.st_size, status.st_mtime_ns, digest)
        if fresh != known:
            payload = {
                "path": str(key.resolve()),
                "files": {n: [h.size, h.mtime_ns, h.sha256] for n, h in fresh.items()},
            }
            # A cache that cannot be written costs only the next start's time.
            with contextlib.suppress(OSError, StoreError):
                write_json(note, payload)
        return {name: entry.sha256 for name, entry in fresh.items()}


def _read_notes(note: Path) -> dict[str, HashNote]:
    try:
        files = json.loads(note.read_text(encoding="utf-8"))["files"]
        return {name: HashNote(*entry) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def safetensors_parameters(folder: Path) -> dict[str, list[int]]:
    """Shapes of all tensors by name, read from the headers alone. Raises :class:`ModelError` naming a corrupt file."""
    shapes: dict[str, list[int]] = {}
    for path in model_files(folder):
        if path.suffix == ".safetensors":
            shapes |= {name: entry["shape"] for name, entry in read_safetensors_header(path).items()}
    return shapes


def read_safetensors_header(path: Path) -> dict[str, dict[str, Any]]:
    """The header of one safetensors file: dtype, shape and offsets by tensor name; checks the file's length."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (OSError, struct.error, ValueError, KeyError, MemoryError, OverflowError) as error:
        raise ModelError(f"'{path}' is not a readable safetensors file; fetch or copy the model again.") from error
    if path.stat().st_size != end:
        raise ModelError(f"'{path}' is cut short or corrupt; fetch or copy the model again.")
    return dict(header)


def stored_dtype(folder: Path) -> str:
    """The dtype most weights have on disk: ``fp32``, ``bf16``, ``fp16`` or the safetensors name of another."""
    first = next(path for path in model_files(folder) if path.suffix == ".safetensors")
    counts: dict[str, int] = {}
    for entry in read_safetensors_header(first).values():
        counts[str(entry["dtype"])] = counts.get(str(entry["dtype"]), 0) + 1
    name = max(counts, key=lambda key: counts[key])
    return {"F32": "fp32", "BF16": "bf16", "F16": "fp16"}.get(name, name)


def need_space(folder: Path, needed: int, what: str) -> None:
    """Raises :class:`ModelError` where the disk of ``folder`` has less than ``needed`` bytes free."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ModelError(
            f"{what} needs {format_bytes(needed)} but '{existing}' has {format_bytes(free)} free; "
            "free space or set DASD_CACHE_DIR to another disk."
        )


def disk_error(error: OSError, folder: Path) -> ModelError:
    """The sentence for a write that failed: full disk, or a folder that may not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ModelError(f"The disk of '{folder}' is full; free space or set DASD_CACHE_DIR to another disk.")
    return ModelError(f"Cannot write to '{folder}' ({error.strerror or error}); set DASD_CACHE_DIR to another folder.")


def format_bytes(count: float) -> str:
    """``98362432`` as ``98 MB`` (powers of ten)."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
