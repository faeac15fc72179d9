r"""The scores of ``mini_math``: what lm-eval's ``process_results`` calls.

``exact_match`` takes the last ``\boxed{}``, else the number that the text declares, else the last number;
``boxed_match`` only the box. The answers are numbers, compared exactly.
"""

from __future__ import annotations

from typing import Any

from dasd_bench.tasks.grading import grade_number, last_boxed
from dasd_bench.tasks.grading.declared import filled_boxes


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """The two scores of one completion."""
    gold = last_boxed(str(doc["solution"])) or ""
    right = grade_number(results[0], gold).correct
    return {"exact_match": float(right), "boxed_match": float(right and bool(filled_boxes(results[0])))}
