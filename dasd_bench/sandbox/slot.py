"""One judge and one zygote, and the jobs that are with them."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from .inside import judge as judge_side
from .inside import zygote as worker_side
from .launch import JudgeProcess, WorkerProcess
from .model import ExecResult, IsolationLevel, Limits, Problem, Sample

_JUDGE_SECONDS = 60.0
_JUDGE_MEMORY = 4 << 30
_REPORT_SECONDS = 10.0
_FIRST = 1 << 15
#: What a socket takes of a job while its judge, busy with the tests of the one before, does not read.
_BEHIND_BYTES = 64 << 10
#: After the verdict a program sees its channel close and ends. This is how long it may take; longer where it is its end
#: that the verdict waits to be explained by.
_ENDING_SECONDS, _GRACE_SECONDS = 0.005, 0.3
#: A job that is sent behind another waits for that one's end, at most about this long, once its judge is free.
_BEHIND_SECONDS = 0.5
_NEVER = float("inf")


@dataclass
class Job:
    """A sample on its way: ``attempt`` counts tries, ``scale`` multiplies the time limits. ``way``: how the judge runs
    the tests; ``before``: its verdict in the way before."""

    index: int
    sample: Sample
    problem: Problem
    key: int
    attempt: int = 0
    scale: float = 1.0
    is_reference: bool = False
    way: int = judge_side.COPIES
    before: ExecResult | None = None


@dataclass
class Flight:
    """A job that has been handed out, and what has come back of it. Times are of ``time.monotonic``."""

    job: Job
    seq: int
    deadline: float = _NEVER
    started: float = 0.0
    stop_at: float = _NEVER
    verdict: dict[str, Any] | None = None
    report: dict[str, Any] | None = None


def scaled(limits: Limits, scale: float) -> Limits:
    """The limits with ``scale`` times the CPU and wall seconds."""
    if scale == 1.0:
        return limits
    return replace(limits, cpu_seconds=limits.cpu_seconds * scale, wall_seconds=limits.wall_seconds * scale)


class Slot:
    """A worker and a judge. At most one program runs; one more job may lie ready behind it, which saves both
    processes the wait for the caller."""

    def __init__(self, level: IsolationLevel, limits: Limits, packages: list[str], engine: str = "") -> None:
        self._level = level
        self._engine = engine
        self._limits = limits
        self._packages = packages
        self.worker = WorkerProcess(level, limits, packages, engine)
        self.judge = JudgeProcess(_JUDGE_MEMORY)
        self.flights: deque[Flight] = deque()
        self._seq = 0

    def wait(self) -> None:
        """Returns when the slot is ready. Raises StartError where the level is refused."""
        self.worker.wait()

    @property
    def alive(self) -> bool:
        return self.worker.alive and self.judge.alive

    def takes(self, job: Job) -> bool:
        """Whether handing out the job now keeps nobody waiting: an idle slot reads at once, a busy one may not."""
        if not self.flights:
            return True
        texts = (job.sample.completion, *(() if job.key in self.judge.known else judge_side.texts(job.problem)))
        return sum(len(text) if text.isascii() else 12 * len(text) for text in texts) <= _BEHIND_BYTES

    def start(self, job: Job) -> bool:
        """Hands out a job; False when one of the processes has died."""
        self._seq += 1
        behind = bool(self.flights)
        flight = Flight(job, self._seq)
        self.flights.append(flight)
        if not behind:
            self._begin(flight)
        limits, problem = scaled(self._limits, job.scale), job.problem
        text = problem.prompt + job.sample.completion if problem.kind == "humaneval" else job.sample.completion
        source = text.encode("utf-8", "surrogatepass")
        wall = limits.wall_seconds + (_BEHIND_SECONDS if behind else 0.0)
        ours, theirs = socket.socketpair()
        try:
            backstop = limits.wall_seconds + _JUDGE_SECONDS
            header = worker_side.HEADER.pack(flight.seq, limits.cpu_seconds, backstop, len(source))
            _send(self.worker.control, header + source, theirs)
            body = judge_side.encode_job(None if job.key in self.judge.known else problem)
            header = judge_side.HEADER.pack(flight.seq, wall, limits.cpu_seconds, job.key, len(body), job.way)
            _send(self.judge.control, header + body, ours)
            self.judge.known.add(job.key)
        except OSError:
            return False
        finally:
            ours.close()
            theirs.close()
        return True

    def _begin(self, flight: Flight) -> None:
        flight.started = time.monotonic()
        wall = self._limits.wall_seconds * flight.job.scale
        flight.deadline = flight.started + wall + _JUDGE_SECONDS

    def heard_verdict(self, verdict: dict[str, Any]) -> None:
        """Takes a judge's message."""
        for flight in self.flights:
            if flight.seq == verdict["seq"]:
                now = time.monotonic()
                flight.verdict = verdict
                flight.stop_at = now + (_GRACE_SECONDS if verdict["outcome"] == "gone" else _ENDING_SECONDS)
                flight.deadline = now + _REPORT_SECONDS

    def heard_report(self, report: dict[str, Any]) -> None:
        """Takes a zygote's message."""
        for flight in self.flights:
            if flight.seq == report["seq"]:
                flight.report = report
                flight.stop_at = _NEVER
                if flight.verdict is None:
                    flight.deadline = min(flight.deadline, time.monotonic() + _JUDGE_SECONDS)

    def finished(self) -> Flight | None:
        """The running job, once both have answered; the job behind it then runs."""
        if not self.flights or self.flights[0].verdict is None or self.flights[0].report is None:
            return None
        done = self.flights.popleft()
        if self.flights:
            self._begin(self.flights[0])
        return done

    @property
    def next_look(self) -> float:
        """When there may be something to do although nobody wrote."""
        return min(self.flights[0].stop_at, self.flights[0].deadline) if self.flights else _NEVER

    def stop_program(self) -> None:
        """Has the running program killed, which its verdict does not wait for."""
        flight = self.flights[0]
        flight.stop_at = _NEVER
        with contextlib.suppress(OSError):  # the missing report will say so
            self.worker.control.sendall(worker_side.HEADER.pack(flight.seq, 0.0, 0.0, worker_side.STOP))

    def restart(self) -> list[Job]:
        """Ends both processes and starts new ones; gives the jobs that have not run. The running one keeps what it has
        been told."""
        self.close()
        self.worker = WorkerProcess(self._level, self._limits, self._packages, self._engine)
        self.judge = JudgeProcess(_JUDGE_MEMORY)
        self.worker.wait()
        waiting = [flight.job for flight in list(self.flights)[1:]]
        while len(self.flights) > 1:
            self.flights.pop()
        return waiting

    def close(self) -> None:
        self.worker.close()
        self.judge.close()


def _send(control: socket.socket, message: bytes, passed: socket.socket) -> None:
    """Sends a message and, with its first bytes, a descriptor."""
    sent = socket.send_fds(control, [message[:_FIRST]], [passed.fileno()])
    if sent < len(message):
        control.sendall(memoryview(message)[sent:])
