r"""The scores of ``math_chat``: what lm-eval's ``process_results`` calls.

``exact_match`` takes the last ``\boxed{}``, else the declared answer, else the last formula; ``boxed_match`` only the
box, the form that was asked for.
"""

from __future__ import annotations

from typing import Any

from dasd_bench.tasks.grading import grade_math, last_boxed, shared_verifier
from dasd_bench.tasks.grading.declared import filled_boxes


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """The two scores of one completion."""
    gold = last_boxed(str(doc["solution"])) or ""
    right = grade_math(results[0], gold, shared_verifier()).correct
    return {"exact_match": float(right), "boxed_match": float(right and bool(filled_boxes(results[0])))}
