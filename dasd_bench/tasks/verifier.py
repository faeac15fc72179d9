"""math-verify behind a time limit that holds: in a process of its own, killed when it takes too long.

math-verify's own limit is a signal of the main thread; sympy can also hold the interpreter for minutes. Here a
question that takes too long costs one killed process, from any thread.
"""

from __future__ import annotations

import contextlib
import functools
import json
import selectors
import subprocess
import sys
import threading
import weakref

SECONDS = 5.0
"""Time limit of one comparison; lm-eval's minerva tasks use the same."""
TEXT_SECONDS = 15.0
"""Time limit of comparing two whole texts: math-verify allows five seconds for each of the two parses as well."""
START_SECONDS = 60.0
"""Time limit for starting the process: sympy takes a second to import, more on a busy machine."""
KEPT = 1 << 16
"""Answers kept, so that a question asked twice (for the score, for the record) is worked out once."""


class Verifier:
    """math-verify in a process. May be asked from any thread; questions wait for each other. ``kills`` counts the
    processes that were ended for a question that took too long."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.kills = 0
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._known: dict[tuple[str, str, str], bool | None] = {}

    def same(self, gold: str, answer: str) -> bool | None:
        """Whether two LaTeX answers are equal as mathematics; None where the time limit was hit."""
        return self._ask("answers", gold, answer, self.seconds)

    def same_text(self, gold: str, text: str) -> bool | None:
        """Whether the answers that math-verify finds in two texts are equal, as stock lm-eval asks it."""
        return self._ask("texts", gold, text, self.seconds * TEXT_SECONDS / SECONDS)

    def difference_is_zero(self, a: str, b: str) -> bool | None:
        """Whether sympy simplifies the difference of two LaTeX formulas to 0; False for what it cannot read."""
        return self._ask("difference", a, b, self.seconds)

    def _ask(self, kind: str, left: str, right: str, seconds: float) -> bool | None:
        with self._lock:
            key = (kind, left, right)
            if key not in self._known:
                if len(self._known) >= KEPT:
                    self._known.clear()
                self._known[key] = self._work_out([kind, left, right], seconds)
            return self._known[key]

    def _work_out(self, question: list[str], seconds: float) -> bool | None:
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            line = self._read_line(process, seconds)
        except OSError:
            line = b""
        if line:
            return bool(json.loads(line))
        # Too slow, or dead by its memory limit: both are the answer's doing, and a new process serves the next.
        self.kills += 1
        _stop(process)
        self._process = None
        return None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "dasd_bench.tasks.verify_worker"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            weakref.finalize(self, _stop, self._process)
            if not self._read_line(self._process, START_SECONDS):
                _stop(self._process)
                raise RuntimeError("the math-verify process did not start")
        return self._process

    @staticmethod
    def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
        """One line of output; empty where none came in time or the process ended. One answer is one short write."""
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            return process.stdout.readline() if selector.select(seconds) else b""


@functools.cache
def shared_verifier() -> Verifier:
    """The one verifier of this process, for all tasks: each has sympy in memory, about 100 MB."""
    return Verifier()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            # What was still in the pipe is of no use.
            with contextlib.suppress(OSError):
                stream.close()
