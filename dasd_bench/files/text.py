"""Opens files that somebody else made or named: every fault of the file becomes one sentence with its path."""

from __future__ import annotations

import datetime
import os
import stat
from pathlib import Path

from dasd_bench.errors import DasdError, DataError, UsageError


def read_bytes(path: Path, error: type[DasdError] = DataError) -> bytes:
    """The bytes of a regular file, or of a pipe that the shell opened (``<(...)``, ``/dev/stdin``).

    Raises ``error`` naming the path for a folder, a device, a named pipe, a file that cannot be read; a missing file
    raises :class:`FileNotFoundError`, so that the caller can say what the file was for.
    """
    try:
        with path.open("rb") as file:
            kind = _kind(os.fstat(file.fileno()).st_mode)
            if kind == "a pipe" and _opened_by_the_shell(path):
                kind = ""
            if kind:
                raise error(f"{path} is {kind}, not a file.")
            return file.read()
    except FileNotFoundError:
        raise
    except IsADirectoryError:
        raise error(f"{path} is a folder, not a file.") from None
    except (OSError, ValueError) as fault:
        raise error(f"{shown(path)} cannot be read ({reason_of(fault)}).") from None


def read_text(path: Path, error: type[DasdError] = DataError) -> str:
    """The text of a UTF-8 file, without a byte-order mark; raises as :func:`read_bytes` does."""
    check_not_waiting(path, error)
    try:
        return read_bytes(path, error).decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise error(f"{path} is not UTF-8 text (byte {fault.start}); save it as UTF-8.") from None


def check_not_waiting(path: Path, error: type[DasdError] = DataError) -> None:
    """Refuses what must not even be opened: a named pipe waits for its writer for ever, some devices never end."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    kind = _kind(mode)
    if kind and not (kind == "a pipe" and _opened_by_the_shell(path)):
        raise error(f"{path} is {kind}, not a file.")


def _kind(mode: int) -> str:
    """What a path is where it is no regular file; empty for one."""
    for test, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(mode):
            return name
    return ""


def _opened_by_the_shell(path: Path) -> bool:
    return os.path.realpath(path).startswith("/proc/")


def reason_of(fault: OSError | ValueError) -> str:
    """What the operating system said, without the number and the path that Python adds."""
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    return str(fault)


def expand_user(text: str, option: str) -> Path:
    """``text`` as a path with ``~`` or ``~name`` expanded; raises :class:`UsageError` for a user nobody knows."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(f"{option} {shown(text)}: there is no such user; write the full path.") from None


def shown(value: object, width: int = 80) -> str:
    """A value as an error sentence shows it: on one line, printable, the middle of a long one left out."""
    text = value if isinstance(value, str) else str(value) if isinstance(value, Path) else _represented(value)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: 20 * width])
    return text if len(text) <= width else f"{text[: width - 25]}...{text[-20:]}"


def _represented(value: object) -> str:
    try:
        return str(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list that holds itself
        return f"a {type(value).__name__}"


def kind_of(value: object) -> str:
    """What a value is, in the words of an error sentence."""
    names: dict[type, str] = {
        bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", tuple: "a list",
        dict: "a mapping", set: "a set", bytes: "binary data", datetime.date: "a date", datetime.datetime: "a date",
    }  # fmt: skip
    return "empty" if value is None else names.get(type(value), f"a {type(value).__name__}")
