"""The acceptance check of a rewritten answer (SDFT, arXiv 2402.13669: leak phrases and the task's own check).

Two guards are ours: the text must have ended by itself, and it must not be a bare answer without its steps (a check of
the final answer alone accepts those).
"""

from __future__ import annotations

from dataclasses import dataclass

from dasd_bench.lab import Lab
from dasd_bench.records import Example, Finish

LEAKS = ("reference answer", "your response", "my response", "your own response", "now it's your turn")
"""Phrases that show that the prompt leaked into the rewrite, compared without case (sail-sg/sdft)."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Whether a rewrite may be trained on, and the first reason why not.

    ``reason``: ``right``, ``truncated``, ``leak``, ``too_short``, or the grader's reason (``wrong``, ``no_answer``).
    """

    accepted: bool
    reason: str


def check_rewrite(
    example: Example, text: str, tokens: int, finish: Finish, lab: Lab, *, min_ratio: float
) -> Acceptance:
    """Checks one rewrite of ``tokens`` tokens. ``min_ratio`` is the least length as a share of the gold answer's."""
    if finish != "stop":
        return Acceptance(False, "truncated")
    lowered = text.lower()
    if any(leak in lowered for leak in LEAKS) or text.startswith("Your turn"):
        return Acceptance(False, "leak")
    verdict = lab.grade(example, text)
    if not verdict.correct:
        return Acceptance(False, verdict.reason.value)
    if tokens < min_ratio * lab.reference_length(example):
        return Acceptance(False, "too_short")
    return Acceptance(True, "right")
