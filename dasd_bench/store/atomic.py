"""Atomic writes (temporary file, fsync, rename) and canonical JSON: a reader never sees half a file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from dasd_bench.errors import StoreError
from dasd_bench.files.text import shown

IN_THE_WAY = (
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EFBIG,
    errno.EIO,
)
"""What else can keep a single file from being written."""


@contextlib.contextmanager
def disk_errors(path: Path, *more: int) -> Iterator[None]:
    """Turns a write that failed into one sentence: the operating system's own errors, those with the numbers ``more``
    too, and those of the libraries that write for us (safetensors, torch, shutil's trees), which hide the number."""
    try:
        yield
    except Exception as error:
        number = _refusal(error)
        if number is None and isinstance(error, OSError) and error.errno in more:
            number = error.errno
        if number is None:
            raise
        where = shown(path, 200)
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"No space left while writing {where}; free some disk space and run the same command again to resume."
            ) from error
        if number == errno.EFBIG:
            raise StoreError(
                f"A file in {where} is larger than this process may write (ulimit -f) or the disk can hold; raise the "
                "limit or choose another folder, and run the same command again to resume."
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
    """Writes ``data`` to ``path`` atomically and durably, with the permissions that the umask gives a new file.

    A link in the file's place is replaced, never followed.
    """
    with disk_errors(path, *IN_THE_WAY):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def make_scratch(folder: Path, prefix: str) -> Path:
    """A new folder in ``folder``, to be filled and renamed; unlike ``mkdtemp``'s it is as open as the umask says."""
    scratch = folder / f"{prefix}{uuid.uuid4().hex[:8]}"
    scratch.mkdir(parents=True)
    return scratch


def apply_umask(folder: Path) -> None:
    """Gives every file under ``folder`` the permissions of a new file; some libraries write theirs for the owner alone.

    ``folder`` must have been made under the present umask: its own mode says what that is.
    """
    mode = stat.S_IMODE(folder.stat().st_mode) & 0o666
    for path in folder.rglob("*"):
        if is_plain_file(path):
            path.chmod(mode)


def is_plain_file(path: Path) -> bool:
    """True for a regular file: no link, folder, FIFO or device, which may block a reader or lead out of the folder."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def is_plain_folder(path: Path) -> bool:
    """True for a folder itself, not for a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def remove(path: Path) -> None:
    """Removes whatever lies at ``path``: a file, a link, a folder with all it holds, or nothing."""
    if is_plain_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


WRITTEN = (".json", ".jsonl", ".yaml", ".safetensors", ".html", ".md", ".pdf", ".svg", ".png")
"""Endings of the files that are written atomically into run directories."""


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that a process killed in the middle of a write left under ``folder``.

    Only for a folder that no other process writes to.
    """
    for path in folder.rglob(".*.????????"):
        # ``.<name>.<8 characters>`` as ``write_bytes`` draws them, where <name> is a file of a run.
        name, _, drawn = path.name[1:].rpartition(".")
        if (
            name.endswith(WRITTEN)
            and set(drawn) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")
            and is_plain_file(path)
        ):
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically."""
    write_text(path, as_json(value))


def as_json(value: Any) -> str:
    """Indented JSON with a newline at its end; dataclasses, paths, sets and arrays in their plain form."""
    return json.dumps(value, indent=2, default=_plain, ensure_ascii=False) + "\n"


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
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
