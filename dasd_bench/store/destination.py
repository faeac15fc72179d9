"""Files that a user named with --output: checked before any work, written through links, devices and pipes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from dasd_bench.errors import UsageError
from dasd_bench.store.atomic import disk_errors, write_bytes

#: Where paths name what a process already has open, such as ``/dev/stdout``.
_OPEN_FILES = ("/dev/", "/proc/")


def check_destination(path: Path, inputs: Iterable[Path] = (), option: str = "--output") -> None:
    """Makes sure, before any work, that ``path`` can be written; makes its folder. Raises UsageError where it is a
    folder, one of the ``inputs`` (by whatever name), or in a place that cannot be written."""
    try:
        if path.is_dir():
            raise UsageError(f"{option} {path} is a folder; name a file.")
        for source in inputs:
            if os.path.realpath(path) == os.path.realpath(source) or _is_same(path, source):
                raise UsageError(f"{option} {path} would overwrite the input {source}; name another file.")
        target = _behind_links(path)
        if not is_stream(path):
            target.parent.mkdir(parents=True, exist_ok=True)
        place = target if target.exists() else target.parent
        if not os.access(place, os.W_OK):
            raise UsageError(f"{option} {path} cannot be written: no write permission for {place}.")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{option} {path} cannot be written ({reason}).") from None


def _is_same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def is_stream(path: Path) -> bool:
    """Whether ``path`` is a device, a pipe or a file that is open already: written to as it is, never replaced."""
    if str(path.absolute()).startswith(_OPEN_FILES):
        return True
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def write_destination(path: Path, data: str | bytes) -> None:
    """Writes UTF-8 text or bytes to what the user named. A file appears whole or not at all, behind a link, too; a file
    with several names keeps them. Raises StoreError."""
    data = data.encode("utf-8") if isinstance(data, str) else data
    target = _behind_links(path)
    if is_stream(path):
        mode = "ab"
    elif target.exists() and target.stat().st_nlink > 1:
        mode = "wb"
    else:
        write_bytes(target, data)
        return
    with disk_errors(path), path.open(mode) as file:
        file.write(data)


def _behind_links(path: Path) -> Path:
    return path if is_stream(path) else Path(os.path.realpath(path))
