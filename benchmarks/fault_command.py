"""Runs a command line in this process and judges what came of it, for the cases of ``benchmarks/faults.py``."""

from __future__ import annotations

import contextlib
import io
import re
import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from dasd_bench.cli.main import run_cli

SECONDS = 300
"""A case that takes longer counts as one that does not come back."""


_UNEXPECTED = re.compile(r"^Error: unexpected ", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """One case: its kind, what was done, and the fault (``unexpected``, ``silent``, ``lost``) or an empty text."""

    kind: str
    what: str
    fault: str
    said: str


class _Hang(BaseException):
    pass


@contextlib.contextmanager
def _limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def command(*args: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command line run in this process; code -1 where it broke."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            with _limit():
                code = run_cli(args)
        except SystemExit as stop:
            code, _ = -1, err.write(f"unexpected SystemExit {stop.code}")
        except _Hang:
            code, _ = -1, err.write(f"unexpected: no answer within {SECONDS} seconds")
        except BaseException:
            code, _ = -1, err.write(f"unexpected: {traceback.format_exc()}")
    return code, out.getvalue(), err.getvalue()


def fault_of(result: tuple[int, str, str], *, refused: bool = False) -> str:
    """``unexpected`` where the command broke, ``silent`` where it took what must be ``refused``, else nothing."""
    code, out, err = result
    if code == -1 or _UNEXPECTED.search(err + out) or "Traceback" in err:
        return "unexpected"
    return "silent" if refused and code == 0 else ""
