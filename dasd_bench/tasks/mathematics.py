r"""Grades final answers in LaTeX: found in the text, settled by their shape where it can be, else by math-verify."""

from __future__ import annotations

import re

from dasd_bench.records import Reason, Verdict
from dasd_bench.task import verdict_of
from dasd_bench.tasks.grading import extract_number, last_boxed, number_in
from dasd_bench.tasks.shapes import settle
from dasd_bench.tasks.verifier import Verifier, shared_verifier

__all__ = ["Verifier", "extract_math", "grade_math", "same_answer", "settle", "shared_verifier"]

_DECLARED = re.compile(
    r"final answer is:?\s*(.+?)\.?\s*(?:I hope it is correct|\n|$)|answer is:?\s*(\$[^$]+\$)", re.IGNORECASE
)
_INLINE = re.compile(r"\$([^$]+)\$")


def extract_math(text: str, numeric: bool) -> str | None:
    """The final answer of a solution: boxed, declared, a number where one is wanted, else the last formula."""
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    declared = _DECLARED.findall(text)
    if declared:
        found = (declared[-1][0] or declared[-1][1]).strip()
        if not numeric or number_in(found) is not None:
            return str(found.strip("$"))
    if numeric:
        return extract_number(text)
    formulas = _INLINE.findall(text)
    return str(formulas[-1]) if formulas else None


def same_answer(answer: str, gold: str, verifier: Verifier) -> bool | None:
    """Whether two LaTeX answers are equal: math-verify's verdict, mostly without asking it; None for no time left."""
    settled = settle(answer, gold)
    return verifier.same(gold, answer) if settled is None else settled


def grade_math(text: str, answer: str, verifier: Verifier) -> Verdict:
    """The verdict on a solution whose right final answer is the LaTeX ``answer``."""
    found = extract_math(text, number_in(answer) is not None)
    if found is None:
        return verdict_of(None, False)
    same = same_answer(found, answer, verifier)
    return Verdict(False, Reason.TIMEOUT, found) if same is None else verdict_of(found, same)
