"""Standard output as a program that works for hours needs it: closed, full, cut off or narrow, nothing is lost in it.

A command that computes goes on when its output cannot be written, and says so once on standard error; any other command
ends: quietly where its reader went away, as Unix tools do, else with one sentence.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator

from dasd_bench.errors import DasdError


class OutputLost(DasdError):  # noqa: N818  (it is the error's plain name)
    """Standard output cannot be written, and there is nothing else to do."""


class ReaderGone(Exception):  # noqa: N818  (no error)
    """The reader of standard output went away. No BrokenPipeError, from which rich would end the program itself."""


class _Guarded(io.RawIOBase):
    """Descriptor 1. ``works_on`` says that lost output stops nothing."""

    def __init__(self, works_on: bool) -> None:
        self._works_on = works_on
        self.lost = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def isatty(self) -> bool:
        return os.isatty(1)

    def write(self, data: object) -> int:
        whole = memoryview(data)  # type: ignore[arg-type]  # RawIOBase takes anything with a buffer
        if self.lost:
            return len(whole)
        try:
            return os.write(1, whole)
        except OSError as fault:
            self.lost = True
            if not self._works_on:
                if fault.errno == errno.EPIPE:
                    raise ReaderGone from None
                raise OutputLost(f"Standard output cannot be written ({fault.strerror}).") from None
            why = "its reader closed it" if fault.errno == errno.EPIPE else fault.strerror
            complain(f"Warning: standard output cannot be written ({why}); the command continues and writes its files.")
            return len(whole)


@contextlib.contextmanager
def guarded_output(works_on: bool) -> Iterator[None]:
    """Puts a guarded stream in the place of the process's standard output, and writes out what it holds at the end.

    Characters that the terminal's encoding lacks are written as escapes. Descriptors that the caller closed are opened
    on nothing, so that no file of this program gets their numbers. Streams that a test has put in place are left alone.
    """
    _open_missing()
    if sys.stdout is not sys.__stdout__:
        yield
        return
    before = sys.stdout
    encoding = (before.encoding if before is not None else None) or "utf-8"
    raw = _Guarded(works_on)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=os.isatty(1)
    )
    try:
        yield
        sys.stdout.flush()
    finally:
        with contextlib.suppress(OutputLost, ReaderGone):
            sys.stdout.flush()
        sys.stdout = before


def complain(text: str) -> None:
    """One line on standard error, where that can be written."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


def _open_missing() -> None:
    """Opens the closed ones of the three standard descriptors on /dev/null; writing to the output still fails."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR if number == 2 else os.O_RDONLY)  # the lowest free number: this one
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
