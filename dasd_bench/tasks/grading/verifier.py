"""math-verify in a small pool of worker processes, whose limits hold: CPU time, memory, no network, no writing.

Model-written text is parsed there. math-verify's own time limit is a signal of the main thread, which a loop inside
sympy outlives; here a comparison that takes too long costs one worker process, which is replaced. The limit counts CPU
time, so that a verdict does not depend on what else the machine does. Distinct pairs are compared once.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dasd_bench.types import Reason

T = TypeVar("T")

CPU_SECONDS = 10.0
"""CPU time of comparing two answers; lm-eval's minerva tasks allow 5 s of wall time for each of three steps."""
TEXT_FACTOR = 3.0
"""How much more comparing two whole texts may take, which holds two parses as well."""
WALL_FACTOR = 20.0
"""Wall time over CPU time beyond which the machine, not the answer, is at fault."""
START_SECONDS = 120.0
"""Wall time for starting a worker: sympy takes a second to import, more on a busy machine."""
MOST_WORKERS = 4
"""Each worker has sympy in memory, about 100 MB."""
REMEMBERED = 1 << 16
"""Distinct questions whose verdicts are kept."""


class Verifier:
    """Asks math-verify, from any thread; ``workers`` questions are worked on at once (default: one per core, up to
    :data:`MOST_WORKERS`). ``kills`` counts the workers that an answer has ended by reaching a limit.

    Verdicts are reasons: CORRECT, WRONG, TIMEOUT where the answer reached a limit, and INFRASTRUCTURE_ERROR where a
    worker was killed from outside, or got no CPU time, twice.
    """

    def __init__(self, cpu_seconds: float = CPU_SECONDS, workers: int | None = None) -> None:
        self.cpu_seconds = cpu_seconds
        self.workers = workers or min(MOST_WORKERS, len(os.sched_getaffinity(0)))
        self.kills = 0
        self._slots = threading.Semaphore(self.workers)
        self._idle: list[_Worker] = []
        self._known: dict[tuple[str, str, str], Reason] = {}

    def same(self, gold: str, answer: str) -> Reason:
        """Whether two LaTeX answers are equal as mathematics."""
        return self._ask("answers", gold, answer, self.cpu_seconds)

    def same_text(self, gold: str, text: str) -> Reason:
        """Whether the answers that math-verify finds in two texts are equal, as stock lm-eval asks it."""
        return self._ask("texts", gold, text, self.cpu_seconds * TEXT_FACTOR)

    def difference_is_zero(self, a: str, b: str) -> Reason:
        """Whether sympy simplifies the difference of two LaTeX formulas to 0; WRONG for what it cannot read."""
        return self._ask("difference", a, b, self.cpu_seconds)

    def map(self, ask: Callable[..., T], *arguments: Iterable[object]) -> list[T]:
        """``ask`` for each set of arguments, as many side by side as there are workers."""
        with ThreadPoolExecutor(self.workers) as threads:
            return list(threads.map(ask, *arguments))

    def _ask(self, kind: str, left: str, right: str, cpu_seconds: float) -> Reason:
        key = (kind, left, right)
        known = self._known.get(key)
        if known is None:
            known = self._work_out(kind, left, right, cpu_seconds)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            if known is not Reason.INFRASTRUCTURE_ERROR:
                self._known[key] = known
        return known

    def _work_out(self, kind: str, left: str, right: str, cpu_seconds: float) -> Reason:
        with self._slots:
            for _ in range(2):
                try:
                    worker = self._idle.pop()
                except IndexError:
                    worker = _Worker()
                verdict = worker.ask([kind, left, right, cpu_seconds], cpu_seconds * WALL_FACTOR)
                if verdict in (Reason.CORRECT, Reason.WRONG):
                    self._idle.append(worker)
                    return verdict
                if verdict is Reason.TIMEOUT:
                    self.kills += 1
                    return verdict
        return Reason.INFRASTRUCTURE_ERROR


class _Worker:
    """One process of :mod:`verify_worker`. Raises :class:`RuntimeError` where it does not start."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dasd_bench.tasks.grading.verify_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        weakref.finalize(self, _stop, self.process)
        if not self._read_line(START_SECONDS):
            _stop(self.process)
            raise RuntimeError("the math-verify process did not start")

    def ask(self, question: list[str | float], wall_seconds: float) -> Reason:
        """The verdict, or why there is none; then the process has ended."""
        assert self.process.stdin is not None
        line = b""
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            self.process.stdin.flush()
            line = self._read_line(wall_seconds)
        if line:
            return Reason.CORRECT if json.loads(line) else Reason.WRONG
        _stop(self.process)
        # A limit of CPU time or memory, or a crash, is the answer's doing; SIGKILL is ours or the machine's.
        return Reason.INFRASTRUCTURE_ERROR if self.process.returncode == -signal.SIGKILL else Reason.TIMEOUT

    def _read_line(self, wall_seconds: float) -> bytes:
        """One line of output; empty where none came in time or the process ended. One answer is one short write."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            return self.process.stdout.readline() if selector.select(wall_seconds) else b""


@functools.cache
def shared_verifier() -> Verifier:
    """The one verifier of this process, for all tasks."""
    return Verifier()


def _stop(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            # What was still in the pipe is of no use.
            with contextlib.suppress(OSError):
                stream.close()
    # One that has ended by itself says why; its exit may take a moment after its pipe has closed.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    process.kill()
    process.wait()
