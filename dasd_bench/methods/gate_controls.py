"""What calibrates and controls a gate: counts of one decoding that the next is matched to, other references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dasd_bench.engine.types import DualGeneration
from dasd_bench.errors import DataError
from dasd_bench.types import Bools, Example, Origin

Pair = tuple[float, float]

REFERENCES = ("own", "swapped", "answer-only")
"""What the answer-aware prompt shows: the example's reference, another example's, or the final answer alone."""


def disagreements(decoded: DualGeneration) -> Bools:
    """Bool [T]: the steps at which a gate had a say: the streams disagree, and ``keep`` is silent."""
    free: Bools = (decoded.base_token != decoded.reference_token) & (decoded.keep == 0)
    return free


def replacement_counts(decoded: Sequence[DualGeneration]) -> list[Pair]:
    """By answer, how many candidates were replaced, and at how many disagreements."""
    steps = [disagreements(one) for one in decoded]
    return [
        (float(np.sum(free & (one.origin == Origin.BASE))), float(np.sum(free)))
        for free, one in zip(steps, decoded, strict=True)
    ]


def replacement_rate(decoded: Sequence[DualGeneration]) -> float:
    """The share of all disagreements at which the candidate was replaced; 0 without any."""
    counts = replacement_counts(decoded)
    total = sum(m for _, m in counts)
    return sum(n for n, _ in counts) / total if total else 0.0


def confidence_thresholds(ungated: Sequence[DualGeneration], share: float) -> list[float]:
    """By answer, the conf from which on ``round(share * m)`` of its m ungated disagreements are replaced.

    Infinite where that is none; tied confidences are replaced together.
    """
    thresholds = []
    for one in ungated:
        conf = np.sort(np.exp(one.base_top1_logp[disagreements(one)]))[::-1]
        count = int(np.floor(share * len(conf) + 0.5))
        # The rule reads a float32 tensor, so the threshold is the same float32 number as the confidence it came from.
        thresholds.append(float(conf[count - 1]) if count else float("inf"))
    return thresholds


def with_reference(examples: Sequence[Example], shown: str) -> list[Example]:
    """The examples with the reference that the answer-aware prompt is to show, one of :data:`REFERENCES`.

    ``swapped`` shows the reference of the next example of the same task (of the first after the last), passing over
    those with the same reference. Raises :class:`DataError` where a task has no such example or no final answers.
    """
    if shown == "own":
        return list(examples)
    if shown == "answer-only":
        for example in examples:
            if not example.answer:
                raise DataError(
                    f"{example.id}: the task gives no final answer, which reference=answer-only shows; use another "
                    "task or reference=swapped."
                )
        return [replace(example, reference=str(example.answer)) for example in examples]
    by_task: dict[str, list[Example]] = {}
    for example in examples:
        by_task.setdefault(example.task, []).append(example)
    swapped = {}
    for rows in by_task.values():
        for number, example in enumerate(rows):
            others = (rows[(number + ahead) % len(rows)].reference for ahead in range(1, len(rows)))
            other = next((text for text in others if text != example.reference), None)
            if other is None:
                raise DataError(f"{example.id}: reference=swapped needs two training examples of its task that differ.")
            swapped[example.id] = replace(example, reference=other)
    return [swapped[example.id] for example in examples]
