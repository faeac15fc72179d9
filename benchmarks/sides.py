"""The sides of a comparison, each in a process of its own: what one does to its process cannot help or harm the other.

The engine has its process keep memory that it frees (``engine/allocator.py``), exchanges modules of the model and
compiles kernels. A user of the peer has none of that, so the peer's process has none of it either. The sides take
turns: one computes while the others wait.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

import psutil

from benchmarks.common import clock
from dasd_bench.engine.allocator import return_free_memory
from dasd_bench.errors import DasdError

Work = Callable[[], Any]
"""What is timed; its result must be picklable."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Median seconds of a side, the most memory that it held in any run above its start, and its last result."""

    seconds: float
    peak_bytes: int
    result: Any


class Side:
    """``prepare(*arguments)`` runs once in the side's own process and gives the work; calling the side times it once.

    ``prepare`` is a function of a module, as multiprocessing's ``spawn`` asks.
    """

    def __init__(self, prepare: Callable[..., Work], *arguments: Any) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, child = spawn.Pipe()
        self._name = f"{prepare.__module__}.{prepare.__qualname__}"
        self._process = spawn.Process(target=_serve, args=(child, prepare, arguments), daemon=True)
        self._process.start()
        child.close()
        self._answer()

    def __call__(self) -> tuple[float, int, Any]:
        """Seconds, peak memory above the start in bytes, and the result of one run.

        Raises:
            DasdError: the process ended; its traceback is on standard error.
        """
        self._pipe.send(None)
        seconds, peak, result = self._answer()
        return seconds, peak, result

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join()

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            raise DasdError(
                f"The process of {self._name} ended with exit code {self._process.exitcode}; what it said is above."
            ) from None


class Timed(Protocol):
    """A side in a process of its own; see :class:`Side`."""

    def __call__(self) -> tuple[float, int, Any]: ...

    def close(self) -> None: ...


def compare(
    prepared: list[tuple[Callable[..., Work], tuple[Any, ...]]], runs: int, others: Sequence[Timed] = ()
) -> list[Outcome]:
    """What each side gives, then what each of ``others`` gives; every second round goes through them backwards."""
    sides = [*(Side(prepare, *arguments) for prepare, arguments in prepared), *others]
    measured: list[list[tuple[float, int, Any]]] = [[] for _ in sides]
    order = list(range(len(sides)))
    for number in range(runs):
        for side in order if number % 2 == 0 else order[::-1]:
            measured[side].append(sides[side]())
    for side in sides:
        side.close()
    return [
        Outcome(statistics.median(s for s, _, _ in found), max(peak for _, peak, _ in found), found[-1][2])
        for found in measured
    ]


class PeakMemory:
    """The most resident memory above the start of the block, in bytes, sampled every 5 ms."""

    def __enter__(self) -> PeakMemory:
        self._process = psutil.Process()
        self._start = self._process.memory_info().rss
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.bytes = max(self.bytes, self._process.memory_info().rss - self._start)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def _serve(pipe: Connection, prepare: Callable[..., Work], arguments: tuple[Any, ...]) -> None:
    """The side's process: prepares, then one run per message, until the pipe is closed."""
    # Ctrl-C reaches the whole group; the parent answers it and takes its daemons along.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    work = prepare(*arguments)
    # What preparing has freed would else be taken up by the first run and not be seen as its memory.
    gc.collect()
    return_free_memory()
    pipe.send(None)
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        with PeakMemory() as peak:
            start = clock()
            result = work()
            seconds = clock() - start
        pipe.send((seconds, peak.bytes, result))
