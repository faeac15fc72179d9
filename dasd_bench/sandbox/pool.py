"""Runs many samples at once: one judge and one zygote per slot, one fork per sample, results in order."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from dasd_bench.errors import DasdError, DataError, UsageError

from .inside import judge as judge_side
from .inside import zygote as worker_side
from .launch import JudgeProcess, StartError, WorkerProcess, importable_packages, receive, receive_report
from .model import ExecResult, IsolationLevel, IsolationReport, Limits, Outcome, Problem, Sample
from .order import Queue

_JUDGE_SECONDS = 60.0
_FIRST = 1 << 15
_JUDGE_MEMORY = 4 << 30
_REPORT_SECONDS = 10.0
_ASKED_ANEW = "the tests asked another question than before"
#: A reference solution may take this many times the limits; samples then get this many times what it took.
_GENEROUS, _MARGIN = 12.0, 3.0


@dataclass
class _Job:
    index: int
    sample: Sample
    problem: Problem
    key: int
    attempt: int = 0
    scale: float = 1.0
    is_reference: bool = False


class _Slot:
    """One worker and one judge; at most one job in flight."""

    def __init__(self, level: IsolationLevel, limits: Limits, packages: list[str]) -> None:
        self.level = level
        self.limits = limits
        self.packages = packages
        self.worker = WorkerProcess(level, limits, packages)
        self.judge = JudgeProcess(_JUDGE_MEMORY)
        self.job: _Job | None = None
        self.verdict: dict[str, Any] | None = None
        self.report: dict[str, Any] | None = None
        self.seq = 0
        self.started = 0.0
        self.deadline = 0.0

    def wait(self) -> None:
        """Returns when the slot is ready. Raises StartError where the level is refused."""
        self.worker.wait()

    def start(self, job: _Job) -> bool:
        """Hands out a job; False when one of the processes has died."""
        self.job, self.verdict, self.report = job, None, None
        self.seq += 1
        self.started = time.monotonic()
        limits, problem = scaled(self.limits, job.scale), job.problem
        self.deadline = self.started + limits.wall_seconds + _JUDGE_SECONDS
        text = problem.prompt + job.sample.completion if problem.kind == "humaneval" else job.sample.completion
        source = text.encode("utf-8", "surrogatepass")
        ours, theirs = socket.socketpair()
        try:
            backstop = limits.wall_seconds + _JUDGE_SECONDS
            header = worker_side.HEADER.pack(self.seq, limits.cpu_seconds, backstop, len(source))
            _send(self.worker.control, header + source, theirs)
            body = judge_side.encode_job(None if job.key in self.judge.known else problem)
            header = judge_side.HEADER.pack(self.seq, limits.wall_seconds, job.key, len(body))
            _send(self.judge.control, header + body, ours)
            self.judge.known.add(job.key)
        except OSError:
            return False
        finally:
            ours.close()
            theirs.close()
        return True

    def stop_program(self, word: bytes) -> None:
        with contextlib.suppress(OSError):  # the missing report will say so
            self.worker.control.sendall(word)

    def restart_worker(self) -> None:
        self.worker.close()
        self.worker = WorkerProcess(self.level, self.limits, self.packages)
        self.worker.wait()

    def restart_judge(self) -> None:
        self.judge.close()
        self.judge = JudgeProcess(_JUDGE_MEMORY)

    def close(self) -> None:
        self.worker.close()
        self.judge.close()


def _send(control: socket.socket, message: bytes, passed: socket.socket) -> None:
    """Sends a message and, with its first bytes, a descriptor."""
    sent = socket.send_fds(control, [message[:_FIRST]], [passed.fileno()])
    if sent < len(message):
        control.sendall(memoryview(message)[sent:])


class Sandbox:
    """Executes samples in isolation. Use as a context manager::

        with Sandbox() as sandbox:
            results = sandbox.run(samples, problems)

    ``workers``: programs at once (default: this process's cores). ``isolation``: ``"auto"`` takes the best level that
    works without a container; a level's name takes that one. ``required_level``: the weakest level that will do; below
    it, entering raises UsageError unless ``allow_unsafe``. ``packages``: installed packages a program may import
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
            raise UsageError(f"The sandbox needs at least one worker, not {workers}.")
        self.limits = limits or Limits()
        self.workers = workers or _cores()
        self._required = (
            required_level if isinstance(required_level, IsolationLevel) else IsolationLevel.parse(required_level)
        )
        self._allow_unsafe = allow_unsafe
        self._isolation = isolation
        self._packages = importable_packages(packages)
        self._slots: list[_Slot] = []
        self.level: IsolationLevel | None = None
        #: Problems whose reference solution needed more than the limits allow: by how much the limits are raised.
        self.scales: dict[str, float] = {}
        self._reference_seconds: dict[int, float] = {}

    def __enter__(self) -> Sandbox:
        if self._isolation == "auto":
            levels = [level for level in IsolationLevel if level.value != "container"]
        else:
            levels = [IsolationLevel.parse(self._isolation)]
        refused: list[str] = []
        for level in levels:
            if level.rank > self._required.rank and not self._allow_unsafe:
                reasons = f" ({'; '.join(refused)})" if refused else ""
                raise UsageError(
                    f"Model-written code would run at isolation level '{level.value}', below the required "
                    f"'{self._required.value}'{reasons}: pass --allow-unsafe-code to accept that, or use a machine "
                    "that allows user namespaces or Landlock."
                )
            try:
                self._open(level)
            except StartError as error:
                refused.append(f"{level.value}: {error}")
                continue
            self.level = level
            return self
        raise UsageError(f"No isolation level could be started: {'; '.join(refused)}.")

    def _open(self, level: IsolationLevel) -> None:
        """Starts all slots side by side."""
        try:
            for _ in range(self.workers):
                self._slots.append(_Slot(level, self.limits, self._packages))
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
        in the order of finishing. Raises DataError for a sample whose task_id no problem has."""
        if not self._slots:
            raise UsageError("Use the sandbox as a context manager: with Sandbox() as sandbox.")
        listed = problems.values() if isinstance(problems, Mapping) else problems
        by_id = {problem.task_id: problem for problem in listed}
        keys = {task_id: _key(problem) for task_id, problem in by_id.items()}
        waiting: Queue[_Job] = Queue()
        for index, sample in enumerate(samples):
            problem = by_id.get(sample.task_id)
            if problem is None:
                raise DataError(f"Sample {index + 1} names task_id '{sample.task_id}', which no problem has.")
            key = keys[sample.task_id]
            waiting.add(key, _Job(index, sample, problem, key, scale=self._scale(problem)))
        results: list[ExecResult | None] = [None] * len(samples)
        held: dict[int, list[tuple[_Job, ExecResult]]] = {}

        def finish(job: _Job, result: ExecResult) -> None:
            if job.is_reference:
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

    def _calibrate(self, job: _Job, result: ExecResult) -> None:
        """From the reference solution's time under generous limits: three times that is what samples get, too."""
        seconds = max(result.cpu_seconds, result.wall_seconds * self.limits.cpu_seconds / self.limits.wall_seconds)
        self._reference_seconds[job.key] = result.cpu_seconds
        scale = min(_GENEROUS, _MARGIN * seconds / self.limits.cpu_seconds)
        if result.passed and scale > 1:
            self.scales[job.problem.task_id] = round(scale, 2)

    def _loop(self, waiting: Queue[_Job], finish: Callable[[_Job, ExecResult], None]) -> None:
        selector = selectors.DefaultSelector()

        def watch(slot: _Slot) -> None:
            selector.register(slot.judge.control, selectors.EVENT_READ, (slot, "judge"))
            selector.register(slot.worker.control, selectors.EVENT_READ, (slot, "worker"))

        def feed(slot: _Slot) -> None:
            while waiting and slot.job is None:
                job = waiting.take(id(slot))
                if job.problem.known_bad:
                    finish(job, self._result(job, Outcome.WRONG_ANSWER, job.problem.known_bad))
                    continue
                # A process that died while idle (the machine ran out of memory, say) is no fault of this job.
                worker, judge = not slot.worker.alive, not slot.judge.alive
                if worker or judge:
                    self._renew(slot, selector, worker=worker, judge=judge)
                if not slot.start(job):
                    self._renew(slot, selector, worker=True, judge=True)
                    slot.job = None
                    finish(job, self._result(job, Outcome.INFRASTRUCTURE_ERROR, "a sandbox process had died"))

        for slot in self._slots:
            watch(slot)
            slot.job = None
        try:
            for slot in self._slots:
                feed(slot)
            while any(slot.job for slot in self._slots):
                for key, _ in selector.select(0.5):
                    slot, who = key.data
                    if slot.job is None or key.fileobj not in (slot.judge.control, slot.worker.control):
                        continue
                    self._message(slot, who, selector)
                now = time.monotonic()
                for slot in self._slots:
                    if slot.job is not None and now > slot.deadline:
                        self._overdue(slot, selector)
                    if slot.job is not None and slot.verdict is not None and slot.report is not None:
                        job, slot.job = slot.job, None
                        finish(job, self._conclude(slot, job))
                        feed(slot)
        finally:
            selector.close()
            for slot in self._slots:
                if slot.job is not None:  # interrupted: what is in flight must not answer the next run
                    slot.restart_worker()
                    slot.restart_judge()
                    slot.job = None

    def _message(self, slot: _Slot, who: str, selector: selectors.BaseSelector) -> None:
        if who == "judge":
            verdict = receive(slot.judge.control)
            if verdict is None:
                self._renew(slot, selector, judge=True)
                verdict = {"outcome": "infrastructure_error", "detail": "the judge's process died"}
            slot.verdict = verdict
            slot.stop_program(worker_side.STOP_GENTLY if verdict["outcome"] == "gone" else worker_side.STOP)
            slot.deadline = time.monotonic() + _REPORT_SECONDS
        else:
            report = receive_report(slot.worker.control)
            if report is None:
                self._renew(slot, selector, worker=True)
                report = {"status": 0, "cause": "lost", "cpu": 0.0, "peak": 0.0}
                slot.deadline = min(slot.deadline, time.monotonic() + _REPORT_SECONDS)
            slot.report = report

    def _overdue(self, slot: _Slot, selector: selectors.BaseSelector) -> None:
        """Past the last deadline: whoever has not answered is ended and replaced."""
        if slot.verdict is None:
            # The judge is still busy with what the program returned; waiting for a program it would have given up.
            self._renew(slot, selector, judge=True)
            slot.verdict = {"outcome": "timeout", "detail": "the tests did not end on the value returned"}
            slot.stop_program(worker_side.STOP)
            slot.deadline = time.monotonic() + _REPORT_SECONDS
        elif slot.report is None:
            self._renew(slot, selector, worker=True)
            slot.report = {"status": 0, "cause": "lost", "cpu": 0.0, "peak": 0.0}

    def _renew(
        self, slot: _Slot, selector: selectors.BaseSelector, *, worker: bool = False, judge: bool = False
    ) -> None:
        try:
            if worker:
                selector.unregister(slot.worker.control)
                slot.restart_worker()
                selector.register(slot.worker.control, selectors.EVENT_READ, (slot, "worker"))
            if judge:
                selector.unregister(slot.judge.control)
                slot.restart_judge()
                selector.register(slot.judge.control, selectors.EVENT_READ, (slot, "judge"))
        except StartError as error:
            raise DasdError(f"A sandbox process died and could not be started again: {error}.") from None

    def _conclude(self, slot: _Slot, job: _Job) -> ExecResult:
        verdict, report = slot.verdict, slot.report
        assert verdict is not None
        assert report is not None
        outcome, detail, number = _combine(verdict, report, scaled(self.limits, job.scale))
        return replace(
            self._result(job, outcome, detail),
            signal=number,
            wall_seconds=round(time.monotonic() - slot.started, 6),
            cpu_seconds=round(report["cpu"], 6),
            peak_memory_mib=round(report["peak"], 3),
        )

    def _result(self, job: _Job, outcome: Outcome, detail: str) -> ExecResult:
        level = self.level.value if self.level else ""
        return ExecResult(job.sample.task_id, outcome is Outcome.PASSED, outcome, detail, isolation_level=level)


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


def scaled(limits: Limits, scale: float) -> Limits:
    """The limits with ``scale`` times the CPU and wall seconds."""
    return replace(limits, cpu_seconds=limits.cpu_seconds * scale, wall_seconds=limits.wall_seconds * scale)


def _is_retried(job: _Job, result: ExecResult) -> bool:
    """Infrastructure errors get a second try, but for faults of the tests themselves. A run that was asked other
    questions than expected is no attempt: the judge expects nothing the next time."""
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
    best = next(level for level in available if level.value != "container")
    return IsolationReport(best, tuple(available), refused)
