"""Model folders on disk: where the user cache is, whether a folder holds a whole model, and its hash.

A hash is computed once: what was hashed is remembered with size, times and inode, so that a second start reads no
weights. What is read of a folder goes through :func:`read_json_object` and :func:`read_safetensors_header`, which name
the file that is not what it should be.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import struct
import tempfile
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from dasd_bench.console import Console
from dasd_bench.errors import ModelError, StoreError
from dasd_bench.files.text import expand_user
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
INDEX = "model.safetensors.index.json"
HUB_PATTERNS = ("*.safetensors", "*.safetensors.index.json", *CONFIG_FILES, *TOKENIZER_FILES)
_CHUNK = 1 << 20


def user_cache_dir() -> Path:
    """``DASD_CACHE_DIR``, else ``dasd-bench`` in the XDG cache folder.

    Without a home folder (no ``HOME``, no entry of the user database) a folder of the user's own among the temporary
    files; raises :class:`ModelError` where another user has taken its name.
    """
    named = os.environ.get("DASD_CACHE_DIR")
    if named:
        return expand_user(named, "DASD_CACHE_DIR")
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dasd-bench"
    except RuntimeError:
        folder = Path(tempfile.gettempdir()) / f"dasd-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # Compiled kernels are loaded from the cache: nobody else may be able to write there.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise ModelError(f"There is no home folder, and {folder} belongs to another user; set DASD_CACHE_DIR.")
    return folder


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object. Raises :class:`ModelError` naming a file that cannot be read or holds else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ModelError(f"'{path}' cannot be read ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"'{path}' is not valid JSON; download or copy the model again.") from error
    if not isinstance(found, dict):
        raise ModelError(f"'{path}' must contain a JSON object, not {_kind(found)}; download or copy the model again.")
    return found


def _kind(value: object) -> str:
    names = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")


_SIZES = (
    "vocab_size",
    "hidden_size",
    "n_embd",
    "d_model",
    "intermediate_size",
    "num_hidden_layers",
    "n_layer",
    "num_attention_heads",
    "n_head",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)
"""Entries of a model's configuration that are counts where they are given."""


def read_model_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a model folder, with the entries that are read here checked for their type.

    Raises :class:`ModelError` naming the file and the entry.
    """
    path = folder / "config.json"
    config = read_json_object(path)
    text = config.get("text_config")
    if text is not None and not isinstance(text, dict):
        raise ModelError(f"'{path}': text_config must be an object, not {_kind(text)}.")
    for part in (config, text or {}):
        for name in _SIZES:
            value = part.get(name)
            # Some configurations give one value a layer.
            for one in value if isinstance(value, list) else [value]:
                if one is not None and (not isinstance(one, int) or isinstance(one, bool) or one < 1):
                    raise ModelError(f"'{path}': {name} must be a whole number of at least 1, not {one!r:.40}.")
        _token_ids(path, part)
    for name, kind in (("model_type", str), ("architectures", list)):
        if not isinstance(config.get(name), kind | None):
            raise ModelError(f"'{path}': {name} is {_kind(config[name])}, which it cannot be.")
    return config


def config_number(config: dict[str, Any], name: str) -> int | None:
    """A count in a configuration as :func:`read_model_config` gives it, or in its text part."""
    found = config.get(name) or (config.get("text_config") or {}).get(name)
    return found if isinstance(found, int) else None


def stop_token_ids(folder: Path) -> frozenset[int]:
    """The tokens at which transformers' ``generate`` stops: of ``generation_config.json``, else of ``config.json``."""
    generation = folder / "generation_config.json"
    found = _token_ids(generation, read_json_object(generation)) if generation.is_file() else []
    if not found:
        config = read_model_config(folder)
        found = _token_ids(folder / "config.json", config)
        found = found or _token_ids(folder / "config.json", config.get("text_config") or {})
    return frozenset(found)


def _token_ids(path: Path, config: dict[str, Any]) -> list[int]:
    """``eos_token_id`` as a list; empty where it is not given (some files say -1)."""
    value = config.get("eos_token_id")
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in ids):
        raise ModelError(f"'{path}': eos_token_id must be a token id or a list of token ids, not {value!r:.40}.")
    return [token for token in ids if token >= 0]


def weight_names(folder: Path) -> list[str]:
    """The names of the safetensors files that transformers reads: ``model.safetensors``, else the index's shards.

    Empty where there are no weights. Raises :class:`ModelError` for an index that names files outside the folder.
    """
    if (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    index = folder / INDEX
    if not index.is_file():
        return []
    weights = read_json_object(index).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise ModelError(f"'{index}' has no weight_map; download or copy the model again.")
    for name in weights.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors") or "\0" in name:
            raise ModelError(f"'{index}' must name safetensors files in its own folder, not {name!r:.80}.")
    return sorted(set(weights.values()))


def missing_parts(folder: Path) -> str | None:
    """What a model folder lacks (config, safetensors weights, a shard, a tokenizer), in words; None when whole.

    Raises :class:`ModelError` for a configuration or an index that is there and not what it should be.
    """
    if not (folder / "config.json").is_file():
        return "config.json"
    stop_token_ids(folder)
    read_model_config(folder)
    shards = weight_names(folder)
    if not shards:
        return "weights as safetensors"
    for shard in shards:
        if not (folder / shard).is_file():
            return shard
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        return "tokenizer (tokenizer.json)"
    return None


def model_files(folder: Path) -> list[Path]:
    """The files that decide what the model computes, sorted by name: weights, configurations, tokenizer."""
    names = {*CONFIG_FILES, *TOKENIZER_FILES, *weight_names(folder)}
    if not (folder / "model.safetensors").is_file():
        names.add(INDEX)
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
    """What is remembered of one hashed file.

    The inode and the time of the last change to it tell a file that was put in another's place with its size and its
    modification time kept, as ``cp -p``, ``rsync`` and ``tar`` do.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str

    @classmethod
    def of(cls, status: os.stat_result, sha256: str) -> HashNote:
        """The note of a file with this status and hash."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, sha256)


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
        """Hashes by file name; only files whose size, times or inode changed are read.

        Raises :class:`ModelError` naming a file that cannot be read.
        """
        note = self._folder / f"{hashlib.sha256(str(key.resolve()).encode()).hexdigest()[:32]}.json"
        known = _read_notes(note)
        fresh: dict[str, HashNote] = {}
        for path in paths:
            try:
                fresh[path.name] = self._note(path, known.get(path.name))
            except OSError as error:
                raise ModelError(f"'{path}' cannot be read ({error.strerror or error}).") from error
        if fresh != known:
            payload = {
                "path": str(key.resolve()),
                "files": {name: astuple(entry) for name, entry in fresh.items()},
            }
            # A cache that cannot be written costs only the next start's time.
            with contextlib.suppress(OSError, StoreError):
                write_json(note, payload)
        return {name: entry.sha256 for name, entry in fresh.items()}

    def _note(self, path: Path, old: HashNote | None) -> HashNote:
        status = path.stat()
        if old is not None and HashNote.of(status, old.sha256) == old:
            return old
        blob = path.resolve().name
        if re.fullmatch(r"[0-9a-f]{64}", blob):
            # The hub cache names the blob of a large file by its SHA-256.
            return HashNote.of(status, blob)
        if status.st_size > 1 << 30:
            self._console.say(f"Hashing {path.name} ({format_bytes(status.st_size)}); this happens only once.")
        return HashNote.of(status, file_sha256(path))


def _read_notes(note: Path) -> dict[str, HashNote]:
    """What was noted; nothing where the note is absent, damaged or of another form."""
    try:
        files = read_json_object(note)["files"]
        notes = {name: HashNote(*entry) for name, entry in files.items()}
    except (ModelError, KeyError, TypeError, AttributeError):
        return {}
    return {name: entry for name, entry in notes.items() if isinstance(entry.sha256, str)}


def safetensors_parameters(folder: Path) -> dict[str, list[int]]:
    """Shapes of all tensors by name, read from the headers alone. Raises :class:`ModelError` naming a corrupt file."""
    shapes: dict[str, list[int]] = {}
    for path in model_files(folder):
        if path.suffix == ".safetensors":
            shapes |= {name: entry["shape"] for name, entry in read_safetensors_header(path).items()}
    return shapes


def read_safetensors_header(path: Path) -> dict[str, dict[str, Any]]:
    """The header of one safetensors file: dtype, shape and offsets by tensor name; checks the file's length.

    Raises :class:`ModelError` naming the file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size - 8:
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = 8 + length + max((_tensor_end(entry) for entry in header.values()), default=0)
    except OSError as error:
        raise ModelError(f"'{path}' cannot be read ({error.strerror or error}).") from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"'{path}' is not a readable safetensors file; download or copy the model again.") from error
    if size != end or not header:
        raise ModelError(f"'{path}' is truncated or corrupt; download or copy the model again.")
    return dict(header)


def _tensor_end(entry: dict[str, Any]) -> int:
    """Where a tensor ends in the file's data. Raises for an entry that no safetensors file has."""
    begin, end = entry["data_offsets"]
    shape, dtype = entry["shape"], entry["dtype"]
    if not isinstance(dtype, str) or not all(type(n) is int and n >= 0 for n in (begin, end, *shape)) or begin > end:
        raise ValueError("a tensor's entry is not valid in a safetensors file")
    bits = _DTYPE_BITS.get(dtype)
    if bits is not None and math.prod(shape) * bits != (end - begin) * 8:
        raise ValueError("a tensor's shape does not fit its length")
    return int(end)


_DTYPE_BITS = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U8": 8,
    "BOOL": 8,
}
"""Bits of one value of the common dtypes of safetensors."""


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
