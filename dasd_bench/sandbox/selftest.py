"""Checks a machine with the problems' own reference solutions before any model's answer is judged on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .model import ExecResult, Problem, Sample
from .pool import Sandbox


@dataclass(frozen=True)
class SelfTest:
    """How the reference solutions did: ``failed`` lists those that did not pass, ``scales`` the problems whose limits
    were raised (task_id to factor) because the reference needs that on this machine."""

    total: int
    passed: int
    failed: tuple[ExecResult, ...]
    slowest_cpu_seconds: float
    scales: dict[str, float]
    isolation_level: str

    @property
    def sentence(self) -> str:
        """What to tell the user."""
        raised = f"; limits raised for {len(self.scales)} slow problems" if self.scales else ""
        failed = f"; failed: {', '.join(result.task_id for result in self.failed[:10])}" if self.failed else ""
        return (
            f"{self.passed} of {self.total} reference solutions pass at isolation level {self.isolation_level}, "
            f"slowest {self.slowest_cpu_seconds:.2f} s of CPU{raised}{failed}"
        )


def self_test(sandbox: Sandbox, problems: Sequence[Problem]) -> SelfTest:
    """Runs the reference solution of every problem that has one, within the sandbox's limits; where one times out, it
    is timed under generous limits and the sandbox raises that problem's limits for all later samples."""
    known = [problem for problem in problems if problem.reference and not problem.known_bad]
    results = sandbox.run([Sample(problem.task_id, problem.reference) for problem in known], known)
    failed = tuple(result for result in results if not result.passed)
    slowest = max((result.cpu_seconds for result in results), default=0.0)
    level = sandbox.level.value if sandbox.level else ""
    return SelfTest(len(results), len(results) - len(failed), failed, slowest, dict(sandbox.scales), level)
