"""Atomic writes (temporary file, fsync, rename) and canonical JSON: a reader never sees half a file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from dasd_bench.errors import StoreError


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's write errors into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"No space left while writing {path}; free some disk and run the same command again to go on."
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise StoreError(f"Cannot write {path}: {error.strerror}; choose another folder with --output.") from error
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Writes ``data`` to ``path`` atomically and durably."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


WRITTEN = (".json", ".jsonl", ".yaml", ".safetensors", ".html", ".md", ".pdf", ".svg", ".png")
"""Endings of the files that are written atomically into run directories."""


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that a process killed in the middle of a write left under ``folder``.

    Only for a folder that no other process writes to.
    """
    for path in folder.rglob(".*.????????"):
        # ``.<name>.<8 characters of mkstemp>``, where <name> is a file of a run.
        name, _, drawn = path.name[1:].rpartition(".")
        if name.endswith(WRITTEN) and set(drawn) <= set("abcdefghijklmnopqrstuvwxyz0123456789_") and path.is_file():
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, default=_plain, ensure_ascii=False) + "\n")


def canonical(value: Any) -> str:
    """JSON with sorted keys and no white space: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain, ensure_ascii=True)


def digest(*parts: Any) -> str:
    """sha256 (hex) of the canonical JSON of ``parts``."""
    return hashlib.sha256(canonical(list(parts)).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")
