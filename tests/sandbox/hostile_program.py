"""What a hostile program is, and the problem it is given.

Each has ``solve(x)`` asked for by a problem whose right answer is ``x * 3 + 1`` (a number) unless said otherwise.
``{...}`` fields are filled in by the test: a canary file, a port that listens, the harness's own paths.
"""

from __future__ import annotations

from dataclasses import dataclass

from dasd_bench.sandbox import Problem

CHECK = """
def check(candidate):
    assert candidate(1) == 4
    assert candidate(2) == 7
    assert candidate(5) == 16
    assert candidate(100) == 301
"""
PROBLEM = Problem("p", "mbpp", entry_point="solve", tests=(
    "assert solve(1) == 4", "assert solve(2) == 7", "assert solve(5) == 16", "assert solve(100) == 301",
))  # fmt: skip
CHECKED = Problem("c", "humaneval", prompt="def solve(x):\n    '''x'''\n", entry_point="solve", test=CHECK)
RIGHT = "def solve(x):\n    return 3 * x + 1\n"


@dataclass(frozen=True)
class Hostile:
    family: int
    name: str
    code: str
    outcomes: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.family:02d}-{self.name}"


def hostile(family: int, name: str, outcomes: str, code: str) -> Hostile:
    return Hostile(family, name, code.strip("\n") + "\n", tuple(outcomes.split()))
