"""Retention: sets outside the training tasks, on which forgetting would show. Which they are and which rows are taken.

Each is a task plugin derived from the installed lm-eval, so any of them can also be named with ``--tasks``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

RETENTION_SETS = (
    "hellaswag",
    "piqa",
    "winogrande",
    "boolq",
    "mmlu",
    "truthfulqa_mc1",
    "arc_easy",
    "arc_challenge",
    "gsm8k",
    "ifeval",
)
"""What ``--retention`` means without names, in this order, less what is trained on or cannot be had."""


def spread(rows: Sequence[T], limit: int) -> list[T]:
    """At most ``limit`` rows at even distances (0: all). Sets such as MMLU are sorted by subject, so the first rows of
    a set are no sample of it."""
    if not limit or limit >= len(rows):
        return list(rows)
    return [rows[number * len(rows) // limit] for number in range(limit)]
