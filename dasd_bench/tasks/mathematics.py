r"""Grades final answers in LaTeX: found in the text, settled by their shape where it can be, else by math-verify."""

from __future__ import annotations

import re

from dasd_bench.tasks.base import verdict_of
from dasd_bench.tasks.grading import declared_number, extract_number, last_boxed, number_in
from dasd_bench.tasks.shapes import settle
from dasd_bench.tasks.verifier import Verifier, shared_verifier
from dasd_bench.types import Reason, Verdict

__all__ = ["Verifier", "extract_math", "grade_math", "same_answer", "settle", "shared_verifier"]

_FORMULA = r"(?<!\\)\$\$?[^$]+\$\$?|\\\((?s:.+?)\\\)|\\\[(?s:.+?)\\\]"
_DECLARED = re.compile(
    r"final answer is:?\s*(\\\[(?s:.+?)\\\]|.+?)\.?\s*(?:I hope it is correct|\n|$)"
    rf"|answer is:?\s*({_FORMULA})",
    re.IGNORECASE,
)
_INLINE = re.compile(_FORMULA)


def extract_math(text: str, numeric: bool) -> str | None:
    """The final answer of a solution: boxed, declared, else the last formula; a number where one is wanted."""
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    declared = _DECLARED.findall(text)
    if declared:
        found = _undressed(declared[-1][0] or declared[-1][1])
        if not numeric or number_in(found) is not None:
            return found
    formulas = list(_INLINE.finditer(text))
    if not numeric:
        return _undressed(formulas[-1][0]) if formulas else None
    for formula in formulas[::-1] if declared_number(text) is None else ():
        if extract_number(text[formula.end() :]) is not None:
            break
        value = _undressed(formula[0]).rpartition("=")[2]
        if number_in(value) is not None:
            return value
    return extract_number(text)


def _undressed(formula: str) -> str:
    r"""A formula without the dollar signs, ``\(`` or ``\[`` around it."""
    bare = formula.strip().strip("$").strip()
    bracketed = re.fullmatch(r"\\\(((?:(?!\\\().)*)\\\)|\\\[((?:(?!\\\[).)*)\\\]", bare, re.DOTALL)
    return bare if bracketed is None else (bracketed[1] or bracketed[2] or "").strip()


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
