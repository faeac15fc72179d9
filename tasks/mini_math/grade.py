r"""The score of ``mini_math``, with the standard library alone: what lm-eval's ``process_results`` calls.

``exact_match`` takes the last ``\boxed{}``, else the number after "answer is", else the last number; ``boxed_match``
only the box.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

NUMBER = re.compile(r"\\d?frac\{(-?\d+)\}\{(-?\d+)\}|(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")


DECLARED = re.compile(r"answer(?:\s+is|:)[:\s$]*(\S+)", re.IGNORECASE)


def boxed(text: str) -> str | None:
    r"""The inside of the last ``\boxed{...}``, braces balanced; None without one."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for i in range(start + 6, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[start + 7 : i]
    return None


def value_of(text: str) -> Fraction | None:
    """The last number in ``text`` (integer, decimal, a/b or a LaTeX fraction), exactly; None without one."""
    found = None
    for match in NUMBER.finditer(text):
        found = match
    if found is None:
        return None
    try:
        if found.group(1):
            sign = -1 if text[: found.start()].endswith("-") else 1
            return sign * Fraction(int(found.group(1)), int(found.group(2)))
        value = Fraction(found.group(0).replace(",", ""))
        # "38/2" is a calculation that was not done, not the number 19.
        return None if "/" in found.group(0) and value.denominator == 1 else value
    except (ZeroDivisionError, ValueError):
        return None


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """The two scores of one completion."""
    gold = value_of(boxed(doc["solution"]) or "")
    box = boxed(results[0])
    in_box = None if box is None else value_of(box)
    declared = [value for value in map(value_of, DECLARED.findall(results[0])) if value is not None]
    anywhere = in_box if in_box is not None else declared[-1] if declared else value_of(results[0])
    return {"exact_match": float(anywhere == gold), "boxed_match": float(in_box == gold)}
