"""Runs many samples at once: one judge and one zygote per slot, one fork per sample, results in order."""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from .errors import ProblemError, SandboxError, SettingError
from .inside.judge import OVERTIME, SHARED
from .launch import StartError, WorkerProcess, importable_packages, receive, receive_report
from .model import ExecResult, IsolationLevel, IsolationReport, Limits, Outcome, Problem, Sample
from .order import Queue
from .slot import Flight, Job, Slot, scaled

_ASKED_ANEW = "the tests asked another question than before"
#: A reference solution may take this many times the limits; samples then get this many times what it took.
_GENEROUS, _MARGIN = 12.0, 3.0


class Sandbox:
    """Executes samples in isolation. Use as a context manager::

        with Sandbox() as sandbox:
            results = sandbox.run(samples, problems)

    ``workers``: programs at once (default: this process's cores). ``isolation``: ``"auto"`` takes the best level that
    works without a container; a level's name takes that one; ``container:docker`` and ``container:bubblewrap`` also say
    which container. ``required_level``: the weakest level that will do; below
    it, entering raises SettingError unless ``allow_unsafe``. ``packages``: installed packages a program may import
    beside the standard library.
    """

    def __init__(
        self,
        workers: int | None = None,
        limits: Limits | None = None,
        required_level: str | IsolationLevel = IsolationLevel.LANDLOCK,
        allow_unsafe: bool = False,
        isolation: str = "auto",
        packages: tuple[str, ...] = ("numpy",),
    ) -> None:
        if workers is not None and workers < 1:
            raise SettingError(f"The sandbox needs at least one worker, not {workers}.")
        self.limits = limits or Limits()
        self.workers = workers or _cores()
        self._required = (
            required_level if isinstance(required_level, IsolationLevel) else IsolationLevel.parse(required_level)
        )
        self._allow_unsafe = allow_unsafe
        self._isolation, _, self._engine = isolation.partition(":")
        if isolation not in IsolationLevel.choices():
            names = ", ".join(IsolationLevel.choices())
            raise SettingError(f"Unknown isolation level '{isolation}': use one of {names}.")
        self._packages = importable_packages(packages)
        self._slots: list[Slot] = []
        self.level: IsolationLevel | None = None
        #: Problems whose reference solution needed more than the limits allow: by how much the limits are raised.
        self.scales: dict[str, float] = {}
        self._reference_seconds: dict[int, float] = {}

    def __enter__(self) -> Sandbox:
        if self._isolation == "auto":
            levels = [level for level in IsolationLevel if level.made_by.by_default]
        else:
            levels = [IsolationLevel.parse(self._isolation)]
        refused: list[str] = []
        for level in levels:
            if level.rank > self._required.rank and not self._allow_unsafe:
                reasons = f" ({'; '.join(refused)})" if refused else ""
                raise SettingError(
                    f"Model-written code would run at isolation level '{level.value}', below the required "
                    f"'{self._required.value}'{reasons}: pass --allow-unsafe-code to accept that, or use a machine "
                    "with user namespaces or Landlock."
                )
            try:
                self._open(level)
            except StartError as error:
                refused.append(f"{level.value}: {error}")
                continue
            self.level = level
            return self
        raise SettingError(f"No isolation level could be started: {'; '.join(refused)}.")

    def _open(self, level: IsolationLevel) -> None:
        """Starts all slots side by side."""
        try:
            for _ in range(self.workers):
                self._slots.append(Slot(level, self.limits, self._packages, self._engine))
            for slot in self._slots:
                slot.wait()
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        for slot in self._slots:
            slot.close()
        self._slots = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def run(
        self,
        samples: Sequence[Sample],
        problems: Iterable[Problem] | Mapping[str, Problem],
        on_result: Callable[[int, ExecResult], None] | None = None,
    ) -> list[ExecResult]:
        """One result per sample, in the samples' order. ``on_result(index, result)`` is called as each one is ready,
        in the order of finishing. Raises ProblemError for a sample whose task_id no problem has."""
        if not self._slots:
            raise SettingError("Use the sandbox as a context manager: with Sandbox() as sandbox.")
        listed = problems.values() if isinstance(problems, Mapping) else problems
        by_id = {problem.task_id: problem for problem in listed}
        keys = {task_id: _key(problem) for task_id, problem in by_id.items()}
        waiting: Queue[Job] = Queue()
        for index, sample in enumerate(samples):
            problem = by_id.get(sample.task_id)
            if problem is None:
                raise ProblemError(f"Sample {index + 1} names task_id '{sample.task_id}', which no problem has.")
            key = keys[sample.task_id]
            waiting.add(key, Job(index, sample, problem, key, scale=self._scale(problem)))
        results: list[ExecResult | None] = [None] * len(samples)
        held: dict[int, list[tuple[Job, ExecResult]]] = {}

        def finish(job: Job, result: ExecResult) -> None:
            if job.before is not None:
                # On shared objects only a pass counts, and in one process only a failure.
                counts = Outcome.PASSED if job.way == SHARED else Outcome.WRONG_ANSWER
                result = result if result.outcome is counts else job.before
            elif job.is_reference:
                self._calibrate(job, result)
                for late, outcome in held.pop(job.key):
                    finish(late, outcome)
                return
            if _is_retried(job, result):
                waiting.add(job.key, replace(job, attempt=job.attempt + (result.detail != _ASKED_ANEW)), first=True)
                return
            if result.outcome is Outcome.TIMEOUT and job.problem.reference:
                if job.key not in self._reference_seconds:
                    held.setdefault(job.key, []).append((job, result))
                    if len(held[job.key]) == 1:
                        gold = Sample(job.sample.task_id, job.problem.reference)
                        again = replace(job, sample=gold, scale=_GENEROUS, is_reference=True)
                        waiting.add(job.key, again, first=True)
                    return
                if (scale := self._scale(job.problem)) > job.scale:
                    waiting.add(job.key, replace(job, scale=scale), first=True)
                    return
                seconds = self._reference_seconds[job.key]
                result = replace(result, detail=f"{result.detail} (the reference solution needs {seconds:.2g} s)")
            results[job.index] = result
            if on_result is not None:
                on_result(job.index, result)

        self._loop(waiting, finish)
        return [result for result in results if result is not None]

    def _scale(self, problem: Problem) -> float:
        return self.scales.get(problem.task_id, 1.0)

    def _calibrate(self, job: Job, result: ExecResult) -> None:
        """From the reference solution's time under generous limits: three times that is what samples get, too."""
        by_wall = result.wall_seconds * self.limits.cpu_seconds / self.limits.wall_seconds
        seconds = max(result.cpu_seconds, result.test_cpu_seconds, by_wall)
        self._reference_seconds[job.key] = result.cpu_seconds
        scale = min(_GENEROUS, _MARGIN * seconds / self.limits.cpu_seconds)
        if result.passed and scale > 1:
            self.scales[job.problem.task_id] = round(scale, 2)

    def _loop(self, waiting: Queue[Job], finish: Callable[[Job, ExecResult], None]) -> None:
        selector = selectors.DefaultSelector()

        def watch(slot: Slot) -> None:
            selector.register(slot.judge.control, selectors.EVENT_READ, (slot, True))
            selector.register(slot.worker.control, selectors.EVENT_READ, (slot, False))

        def renew(slot: Slot) -> None:
            """New processes for a slot; what the old ones had not begun goes back into the queue."""
            selector.unregister(slot.judge.control)
            selector.unregister(slot.worker.control)
            try:
                for job in reversed(slot.restart()):
                    waiting.add(job.key, job, first=True)
            except StartError as error:
                raise SandboxError(f"A sandbox process died and could not be started again: {error}.") from None
            watch(slot)

        def feed(slot: Slot) -> None:
            """A job for an idle slot, and one to lie ready where there are jobs enough for all slots."""
            while waiting and (not slot.flights or (len(slot.flights) < 2 and len(waiting) > 2 * len(self._slots))):
                job = waiting.take(id(slot))
                if job.problem.known_bad:
                    finish(job, self._result(job, Outcome.WRONG_ANSWER, job.problem.known_bad))
                    continue
                if not slot.takes(job):
                    waiting.add(job.key, job, first=True)
                    return
                # A process that died while idle (the machine ran out of memory, say) is no fault of this job.
                if not slot.flights and not slot.alive:
                    renew(slot)
                if not slot.start(job):
                    lost(slot, "a sandbox process died")

        def lost(slot: Slot, why: str) -> None:
            """A process died under its running job, which answers for it; one that lay behind goes back."""
            renew(slot)
            flight = slot.flights.popleft()
            finish(flight.job, self._result(flight.job, Outcome.INFRASTRUCTURE_ERROR, why))

        def give_up(slot: Slot) -> None:
            """The judge is stuck with what the program returned (for a program it would not wait so long), or the
            zygote with the program's end: both are ended and replaced."""
            flight = slot.flights[0]
            if flight.verdict is None:
                detail = "the tests did not finish with the value returned"
                flight.verdict = {"outcome": "timeout", "detail": detail, "cpu": self.limits.cpu_seconds}
            flight.report = flight.report or {"status": 0, "cause": "lost", "cpu": 0.0, "peak": 0.0}
            renew(slot)

        def step(slot: Slot, is_judge: bool) -> None:
            """Takes one message of a slot's process."""
            message = receive(slot.judge.control) if is_judge else receive_report(slot.worker.control)
            if message is None and is_judge and slot.judge.ended_by == OVERTIME:
                give_up(slot)
            elif message is None:
                lost(slot, f"the {'judge' if is_judge else 'zygote'}'s process died")
            elif is_judge:
                slot.heard_verdict(message)
            else:
                slot.heard_report(message)

        for slot in self._slots:
            watch(slot)
        try:
            for slot in self._slots:
                feed(slot)
            while any(slot.flights for slot in self._slots):
                next_look = min(slot.next_look for slot in self._slots) - time.monotonic()
                for key, _ in selector.select(min(0.5, max(0.0, next_look))):
                    slot, is_judge = key.data
                    # A slot renewed in this very round has other sockets.
                    if slot.flights and key.fileobj in (slot.judge.control, slot.worker.control):
                        step(slot, is_judge)
                now = time.monotonic()
                for slot in self._slots:
                    if slot.flights and now > slot.flights[0].deadline:
                        give_up(slot)
                    if slot.flights and now > slot.flights[0].stop_at:
                        slot.stop_program()
                    while flight := slot.finished():
                        job, result = flight.job, self._conclude(flight)
                        way = flight.verdict.get("next") if flight.verdict else None
                        if way and not job.is_reference:
                            waiting.add(job.key, replace(job, way=way, before=result), first=True)
                        else:
                            finish(job, result)
                    feed(slot)
        finally:
            selector.close()
            for slot in self._slots:
                if slot.flights:  # interrupted: what is in flight must not answer the next run
                    slot.restart()
                    slot.flights.clear()

    def _conclude(self, flight: Flight) -> ExecResult:
        job, verdict, report = flight.job, flight.verdict, flight.report
        assert verdict is not None
        assert report is not None
        outcome, detail, number = _combine(verdict, report, scaled(self.limits, job.scale))
        wall = round(time.monotonic() - flight.started, 6)
        result = self._result(job, outcome, detail, number)
        return replace(
            result,
            wall_seconds=wall,
            cpu_seconds=round(report["cpu"], 6),
            test_cpu_seconds=round(verdict["cpu"], 6),
            peak_memory_mib=round(report["peak"], 3),
        )

    def _result(self, job: Job, outcome: Outcome, detail: str, number: int | None = None) -> ExecResult:
        level = self.level.value if self.level else ""
        return ExecResult(job.sample.task_id, outcome is Outcome.PASSED, outcome, detail, number, isolation_level=level)


def _combine(verdict: dict[str, Any], report: dict[str, Any], limits: Limits) -> tuple[Outcome, str, int | None]:
    """The judge says whether the tests passed; where the program ended before that, its zygote says why."""
    said, detail = verdict["outcome"], verdict["detail"]
    if said == "retry":
        return Outcome.INFRASTRUCTURE_ERROR, _ASKED_ANEW, None
    if said == "unusable":
        return Outcome.INFRASTRUCTURE_ERROR, f"tests: {detail}", None
    cause = report["cause"]
    # A flooding program may still see its pipe close and answer with that exception before it is killed.
    flooded = said == "exception" and cause == "output"
    if said != "gone" and not flooded:
        return Outcome(said), detail, None
    if cause == "lost":
        return Outcome.INFRASTRUCTURE_ERROR, "the zygote's process died", None
    by_cause = {
        "cpu": (Outcome.TIMEOUT, f"over {limits.cpu_seconds:g} s of CPU time"),
        "wall": (Outcome.TIMEOUT, "over the wall limit"),
        "memory": (Outcome.OUT_OF_MEMORY, f"over {limits.memory_gib:g} GiB in all its processes"),
        "output": (Outcome.OUTPUT_LIMIT, f"printed over {limits.output_bytes} bytes"),
        "files": (Outcome.OUTPUT_LIMIT, f"wrote over {limits.file_bytes} bytes of files"),
    }
    if cause in by_cause:
        outcome, why = by_cause[cause]
        return outcome, why, None
    status = report["status"]
    if cause == "" or os.WIFEXITED(status):
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number == signal.SIGXCPU or (number == signal.SIGKILL and report["cpu"] >= limits.cpu_seconds):
                return Outcome.TIMEOUT, f"over {limits.cpu_seconds:g} s of CPU time", None
            return Outcome.KILLED, f"killed by signal {number}", number
        return (
            Outcome.NO_RESULT,
            f"the program ended with exit status {os.WEXITSTATUS(status)} before it answered",
            None,
        )
    return Outcome.NO_RESULT, detail, None


def _is_retried(job: Job, result: ExecResult) -> bool:
    """Infrastructure errors get a second try, but for faults of the tests themselves, and so does a program that was
    killed: the machine may have been short of memory. A run that was asked other questions than expected is no
    attempt: the judge expects nothing the next time."""
    if result.outcome is Outcome.KILLED and result.signal == signal.SIGKILL:
        return job.attempt == 0
    if result.outcome is not Outcome.INFRASTRUCTURE_ERROR or result.detail.startswith("tests:"):
        return False
    return job.attempt == 0 or result.detail == _ASKED_ANEW


def _key(problem: Problem) -> int:
    return hash(problem)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def probe_isolation() -> IsolationReport:
    """Tries each level by starting a zygote at it, and says which work. Takes about a tenth of a second each."""
    available, refused = [], {}
    for level in IsolationLevel:
        try:
            worker = WorkerProcess(level, Limits(), [])
            worker.wait()
        except StartError as error:
            refused[level] = str(error)
        else:
            worker.close()
            available.append(level)
    best = next(level for level in available if level.made_by.by_default)
    return IsolationReport(best, tuple(available), refused)
