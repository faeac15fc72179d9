"""The engine in several processes: a call goes whole to a free process, so calls of several threads run side by side.

A result depends on its call alone (batches are formed within a call), so it has the same bytes whichever process
computes it, as long as each process computes with as many threads.
"""

from __future__ import annotations

import gc
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import torch

from dasd_bench.engine.allocator import return_free_memory
from dasd_bench.engine.errors import EngineError
from dasd_bench.engine.interface import InferenceEngine
from dasd_bench.engine.requests import DualRequest, GenerateRequest, LogLikelihood, ScoreRequest
from dasd_bench.engine.threads import usable_cores
from dasd_bench.engine.types import DualGeneration, Generation, StepRule, TokenScores

Recipe = Callable[[], InferenceEngine]
"""Makes an engine in another process: something that pickle can send."""

UNLOAD = "unload"
FACTS = "facts"


class EngineProcess:
    """One process that holds one engine at a time; started, and started again after it died, by the next call.

    ``share`` is the number of processes that share this machine's cores.
    """

    def __init__(self, share: int) -> None:
        self._share = share
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._loaded: Recipe | None = None
        self._busy = threading.Lock()

    def call(
        self, recipe: Recipe, name: str, arguments: Sequence[Any], on_result: Callable[[int, Any], None] | None = None
    ) -> Any:
        """What the engine of ``recipe`` gives for a call; a list of results for a list of requests.

        Raises what the engine raised, and :class:`EngineError` where the process died.
        """
        with self._busy:
            self._start()
            if self._loaded != recipe:
                self._ask("load", (recipe,), None)
                self._loaded = recipe
            return self._ask(name, arguments, on_result)

    def unload(self) -> None:
        """Gives the engine's memory back; a process that is computing is ended instead."""
        if not self._busy.acquire(blocking=False):
            self.stop()
            return
        try:
            if self._process is not None and self._loaded is not None:
                self._ask(UNLOAD, (), None)
                self._loaded = None
        finally:
            self._busy.release()

    def stop(self) -> None:
        """Ends the process, whatever it does; a call that waits for it raises."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def start(self) -> None:
        """Starts the process, which takes seconds, without waiting for it."""
        with self._busy:
            self._start()

    def _start(self) -> None:
        if self._process is not None:
            return
        ours, theirs = Pipe()
        given = os.environ.get("OMP_NUM_THREADS")
        cores = usable_cores()
        threads = str(max(1, cores // self._share)) if given is None or given == str(cores) else given
        # Ends when this process closes its end of the pipe, or is gone.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dasd_bench.engine.pool", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": threads},
        )
        theirs.close()
        self._connection, self._loaded = ours, None
        # Also where this process ends.
        weakref.finalize(self, _end, self._process, ours)

    def _ask(self, name: str, arguments: Sequence[Any], on_result: Callable[[int, Any], None] | None) -> Any:
        assert self._connection is not None
        assert self._process is not None
        found: dict[int, Any] = {}
        try:
            self._connection.send((name, tuple(arguments)))
            while True:
                kind, *values = self._connection.recv()
                if kind != "result":
                    break
                index, one = values
                found[index] = one
                if on_result is not None:
                    on_result(index, one)
        except (EOFError, OSError):
            raise EngineError(
                f"An engine process ended with code {self._drop()}, perhaps for lack of memory; lower --processes."
            ) from None
        except BaseException:
            # Interrupted in the middle of an answer: the rest of it would be taken for the next one.
            self._process.kill()
            self._drop()
            raise
        if kind == "error":
            raise values[0]
        return values[0] if values[0] is not None else [found[index] for index in range(len(found))]

    def _drop(self) -> int:
        """Forgets a process that has ended, and gives its exit code."""
        assert self._connection is not None
        assert self._process is not None
        code = self._process.wait()
        self._connection.close()
        self._process = None
        return code


def _end(process: subprocess.Popen[bytes], connection: Connection) -> None:
    process.kill()
    process.wait()
    connection.close()


class EnginePool:
    """Offers what one engine does, from several threads at once; ``recipes`` has one engine for each process."""

    def __init__(self, processes: Sequence[EngineProcess], recipes: Sequence[Recipe]) -> None:
        self._all = list(processes)
        for process in processes:
            process.start()
        self._free: queue.SimpleQueue[tuple[EngineProcess, Recipe]] = queue.SimpleQueue()
        for one in zip(processes, recipes, strict=True):
            self._free.put(one)
        self._facts: tuple[int | None, dict[str, Any]] | None = None

    @property
    def processes(self) -> int:
        """How many calls run side by side."""
        return len(self._all)

    @property
    def context_length(self) -> int | None:
        """The most tokens a sequence may have, or None without a limit."""
        return self._known()[0]

    def describe(self) -> dict[str, Any]:
        """The path taken, for the manifest."""
        return self._known()[1]

    def generate(
        self, requests: Sequence[GenerateRequest], on_result: Callable[[int, Generation], None] | None = None
    ) -> list[Generation]:
        """Completions."""
        return list(self._call("generate", (list(requests),), on_result))

    def dual_decode(
        self,
        requests: Sequence[DualRequest],
        rule: StepRule,
        on_result: Callable[[int, DualGeneration], None] | None = None,
    ) -> list[DualGeneration]:
        """Completions decoded with two contexts."""
        return list(self._call("dual_decode", (list(requests), rule), on_result))

    def score(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, TokenScores], None] | None = None
    ) -> list[TokenScores]:
        """Scores of every target token."""
        return list(self._call("score", (list(requests),), on_result))

    def loglikelihood(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, LogLikelihood], None] | None = None
    ) -> list[LogLikelihood]:
        """Sums of log-probabilities per target."""
        return list(self._call("loglikelihood", (list(requests),), on_result))

    def close(self) -> None:
        """Gives the memory back; calls that still run raise."""
        for process in self._all:
            process.unload()

    def _known(self) -> tuple[int | None, dict[str, Any]]:
        if self._facts is None:
            self._facts = self._call(FACTS, (), None)
        return self._facts

    def _call(self, name: str, arguments: Sequence[Any], on_result: Callable[[int, Any], None] | None) -> Any:
        process, recipe = self._free.get()
        try:
            return process.call(recipe, name, arguments, on_result)
        finally:
            self._free.put((process, recipe))


def _serve(connection: Connection) -> None:
    """Answers calls until the other end is closed."""
    engine: InferenceEngine | None = None
    with suppress(EOFError, OSError):
        while True:
            name, arguments = connection.recv()
            answer: Any = True
            try:
                if name in ("load", UNLOAD):
                    if engine is not None:
                        engine.close()
                    engine = None
                    _free_memory()
                    if name == "load":
                        engine = arguments[0]()
                elif engine is not None and name == FACTS:
                    answer = (engine.context_length, engine.describe())
                else:
                    getattr(engine, name)(*arguments, on_result=lambda *one: connection.send(("result", *one)))
                    answer = None
            except Exception as error:
                _send_error(connection, error)
            else:
                connection.send(("done", answer))


def _free_memory() -> None:
    """Gives back what the engine held: the trainers' own processes want it."""
    gc.collect()
    return_free_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _send_error(connection: Connection, error: Exception) -> None:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        # An exception that pickle cannot make again.
        told = isinstance(error, EngineError)
        error = EngineError(str(error)) if told else RuntimeError("".join(traceback.format_exception(error)))
    connection.send(("error", error))


if __name__ == "__main__":
    # Ctrl-C reaches every process of a terminal; ours end with the one that started them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve(Connection(int(sys.argv[1])))
