"""Worked numbers: an answer's equations mended where they first go wrong, everything that follows from it included."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from dasd_bench.methods.edits.edited import Edited, replaced

NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
"""A number as worked answers write it; a currency sign before it is no part of it."""

_TERM = rf"\$?{NUMBER.pattern}"
_SIGN = r"(?:\s*[-+*/×÷]\s*|\s+x\s+)\$?"
_SIDE = rf"{_TERM}(?: [A-Za-z]+)?(?:{_SIGN}{_TERM}(?: [A-Za-z]+)?)+"
_ALONE = r"(?![\d.,]*\d|\s*[-+*/×÷%]\s*\d)"
_EQUATION = re.compile(rf"(?<![\d.,/*%])({_SIDE})\s*=\s*({_TERM}){_ALONE}")
"""The result is a number that stands alone: of ``1/2 * 1/2 = 1/4`` and ``3 + 2 = 5 * 1`` nothing is taken."""

_OPERATORS = re.compile(r"[-+*/×÷]|(?<=\s)x(?=\s)")

CLOSE = Fraction(1, 100)
"""A written result within this of the exact one is taken for a rounded one."""


@dataclass(frozen=True, slots=True)
class Equation:
    """One worked step: the spans of its left side and of its result, and the text of both."""

    start: int
    end: int
    left: str
    result_start: int
    result: str


def equations(text: str) -> list[Equation]:
    """The equations of a worked answer, such as ``3 x $4 = $12``, in order."""
    found = []
    for match in _EQUATION.finditer(text):
        result = match.group(2).lstrip("$")
        found.append(Equation(match.start(), match.end(), match.group(1), match.end() - len(result), result))
    return found


def value_of(text: str) -> Fraction:
    """A number's value."""
    return Fraction(text.replace(",", ""))


def evaluate(left: str) -> Fraction | None:
    """The value of a left side, multiplication before addition; None where it divides by nothing."""
    numbers = [value_of(one) for one in NUMBER.findall(left)]
    signs = _OPERATORS.findall(left)
    if len(signs) != len(numbers) - 1:
        return None
    terms = [numbers[0]]
    for sign, number in zip(signs, numbers[1:], strict=True):
        if sign in "*×x":
            terms[-1] *= number
        elif sign in "/÷":
            if not number:
                return None
            terms[-1] /= number
        else:
            terms.append(-number if sign == "-" else number)
    return sum(terms, Fraction(0))


def right_equations(text: str) -> list[Equation]:
    """The equations whose two sides agree; a gold answer may leave out a unit (``10 * 60 = $6.00``)."""
    found = [(one, evaluate(one.left)) for one in equations(text)]
    return [one for one, value in found if value is not None and abs(value - value_of(one.result)) < CLOSE]


def written(value: Fraction) -> str | None:
    """A value as an answer writes it: a whole number or a short decimal; None for any other."""
    if value < 0:
        return None
    if value.denominator == 1:
        return str(value.numerator)
    scaled = value * 100
    return f"{float(value):g}" if scaled.denominator == 1 else None


def mends(text: str, reference: str) -> Iterator[Edited]:
    """Ways to mend a worked answer, the smallest first; whether one is right is for the task's grader to say.

    First every result is computed again from what stands left of it, and a wrong number is replaced wherever it is used
    later on. Then the first step whose (right) result is none of the reference's is replaced by the reference's step of
    the same number. Nothing else of the wording changes.
    """
    seen = set()
    for step in (None, _wrong_step(text, reference)):
        edited = _mended(text, step)
        if edited is not None and edited.after not in seen:
            seen.add(edited.after)
            yield edited


def _wrong_step(text: str, reference: str) -> tuple[int, Equation] | None:
    """The first step that computes something the reference does not, with the reference's step in its place."""
    gold = equations(reference)
    wanted = {value_of(one.result) for one in gold}
    for number, one in enumerate(equations(text)):
        value = evaluate(one.left)
        if value is not None and value not in wanted:
            return (number, gold[number]) if number < len(gold) else None
    return None


def _mended(text: str, step: tuple[int, Equation] | None) -> Edited | None:
    """``text`` with wrong results computed again, and step number ``step[0]`` replaced; None where nothing changes, and
    where a wrong number stood in the text before, so that what it means later on cannot be told."""
    renamed: dict[Fraction, str] = {}
    parts: list[tuple[int, int, str]] = []
    before: set[Fraction] = set()
    at = 0

    def follow(until: int) -> None:
        """Numbers up to ``until`` that repeat a mended result."""
        nonlocal at
        for match in NUMBER.finditer(text, at, until):
            number = match.group()
            if value_of(number) in renamed:
                parts.append((match.start(), match.start() + len(number), renamed[value_of(number)]))
            else:
                before.add(value_of(number))
        at = until

    for number, one in enumerate(equations(text)):
        if step is not None and number == step[0]:
            old, new = value_of(one.result), step[1].result
            follow(one.start)
            if old in before:
                return None
            parts.append((one.start, one.end, f"{step[1].left} = {step[1].result}"))
            at = one.end
        else:
            follow(one.result_start)
            value = evaluate(NUMBER.sub(lambda match: renamed.get(value_of(match.group()), match.group()), one.left))
            old = value_of(one.result)
            if value is None or abs(value - old) < CLOSE:
                before.add(old)
                at = one.end
                continue
            found = written(value)
            if found is None or old in before:
                return None
            new = found
            parts.append((one.result_start, one.result_start + len(one.result), new))
            at = one.end
        if value_of(new) != old:
            renamed[old] = new
    follow(len(text))
    return replaced(text, parts) if parts else None
