"""Atomic writes (temporary file, fsync, rename) and canonical JSON: a reader never sees half a file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from dasd_bench.errors import StoreError
from dasd_bench.files.text import shown


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a write that failed into one sentence: the operating system's own errors, and those of the libraries that
    write for us (safetensors, torch, shutil's trees), which hide the number in their text."""
    try:
        yield
    except Exception as error:
        number = _refusal(error)
        if number is None:
            raise
        where = shown(path, 200)
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"No space left while writing {where}; free some disk and run the same command again to go on."
            ) from error
        if number == errno.EFBIG:
            raise StoreError(
                f"A file in {where} is larger than this process may write (ulimit -f) or the disk can hold; raise the "
                "limit or choose another folder, and run the same command again to go on."
            ) from error
        raise StoreError(
            f"Cannot write {where}: {os.strerror(number)}; choose another folder with --output."
        ) from error


def _refusal(error: BaseException) -> int | None:
    """The number of the operating system's error behind ``error``; None where it is something else."""
    if isinstance(error, shutil.Error):  # copytree: (source, target, text) of every file
        found = [code for code in errno.errorcode if f"[Errno {code}]" in str(error)]
        return found[0] if found else errno.EIO
    if isinstance(error, OSError):
        known = isinstance(error, (FileNotFoundError, FileExistsError)) or error.errno is None
        return None if known else error.errno
    if type(error).__name__ == "SafetensorError":
        numbered = re.search(r"os error (\d+)", str(error))
        return int(numbered[1]) if numbered else None
    if isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("PytorchStreamWriter", "inline_container")
    ):
        return errno.ENOSPC
    return None


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
