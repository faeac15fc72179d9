"""The acceptance check of rewritten answers (SDFT, arXiv 2402.13669: leak phrases and the task's own check).

Two guards are ours: the text must have ended by itself, and it must not be a bare answer without its steps (a check of
the final answer alone accepts those).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dasd_bench.methods.context import DualGeneration, Generation, MethodContext
from dasd_bench.types import Example

LEAKS = ("reference answer", "your response", "my response", "your own response", "now it's your turn")
"""Phrases that show that the prompt leaked into the rewrite, compared without case (sail-sg/sdft)."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Whether a rewrite may be trained on, and the first reason why not.

    ``reason``: ``right``, ``truncated``, ``leak``, ``too_short``, or the grader's reason (``wrong``, ``no_answer``).
    """

    accepted: bool
    reason: str


def check_rewrites(
    examples: Sequence[Example],
    rewrites: Sequence[Generation | DualGeneration],
    context: MethodContext,
    *,
    min_ratio: float,
) -> list[Acceptance]:
    """Checks one rewrite per example, in order; those that are graded at all are graded in one go.

    ``min_ratio`` is the least length as a share of the gold answer's.
    """
    faults = [_fault(rewrite) for rewrite in rewrites]
    graded = [index for index, fault in enumerate(faults) if not fault]
    verdicts = context.grade_all([examples[index] for index in graded], [rewrites[index].text for index in graded])
    for index, verdict in zip(graded, verdicts, strict=True):
        if not verdict.correct:
            faults[index] = verdict.reason.value
        elif len(rewrites[index].token_ids) < min_ratio * context.reference_length(examples[index]):
            faults[index] = "too_short"
    return [Acceptance(not fault, fault or "right") for fault in faults]


def _fault(rewrite: Generation | DualGeneration) -> str:
    """What is wrong with a rewrite whatever its answer; empty where nothing is."""
    if rewrite.finish != "stop":
        return "truncated"
    leaked = any(leak in rewrite.text.lower() for leak in LEAKS) or rewrite.text.startswith("Your turn")
    return "leak" if leaked else ""
