"""The scores of ``gsm8k_chat``: what lm-eval's ``process_results`` calls.

``exact_match`` takes the answer wherever the text declares it (boxed, after ``####``, "the answer is"), else the last
number; ``format_match`` only the number of "The answer is n", the form that was asked for.
"""

from __future__ import annotations

import re
from typing import Any

from dasd_bench.tasks.grading import grade_number

ASKED = re.compile(r"[Tt]he answer is:?[\s*]*[-+−–]?\s*[$€£¥₹]?\s*[-+−–]?\.?\d[^\n]*")


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """The two scores of one completion."""
    gold = str(doc["answer"]).rpartition("####")[2].strip()
    asked = ASKED.findall(results[0])
    return {
        "exact_match": float(grade_number(results[0], gold).correct),
        "format_match": float(bool(asked) and grade_number(asked[-1], gold).correct),
    }
