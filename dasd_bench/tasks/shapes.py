r"""The fast path of mathematical grading: verdicts that the shape of two LaTeX answers settles, without sympy.

Two answers that are equal but for their dress (``\left``, ``\dfrac``, spacing, dollar signs) are right. Two that both
read as numbers, closed forms, formulas, or lists, points, intervals and matrices of those, are compared by value:
exactly where both are rational or have one canonical form (``\sqrt{12}`` and ``2\sqrt{3}``), else at fixed points,
where only a difference settles anything (an agreement is left to sympy). All else gives no verdict. The aim is
math-verify's own verdict, and ``benchmarks/grader.py`` counts where it is not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from dasd_bench.tasks.exact import canonical
from dasd_bench.tasks.formula import Unreadable, Value, evaluate

APART = 1e-6
"""Relative difference at which two inexact values are different."""
APART_DECIMAL = 2e-5
"""Absolute difference at which a decimal differs: math-verify rounds those to six places before it compares."""
LONGEST = 1000
"""Characters of an answer beyond which its shape is not looked at: runaway text."""
SMALLEST = 1e-12
"""Absolute difference below which math-verify takes some values for equal, so that sympy is asked."""

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_DRESS = re.compile(r"\\(?:left|right)(?![a-z])|\\displaystyle(?![a-z])|(?<!\\)\\(?:[!,;:>$]|(?=\s))|(?<!\\)\$")
_WORDS = re.compile(r"\\(?:text|mathrm|textbf|mbox|textit)\s*\{([^{}\\$]*)\}")
_MATRIX = re.compile(r"\\begin\{([pb]matrix)\}(.*)\\end\{\1\}", re.DOTALL)
_NAMES = re.compile(r"\\[a-z]+")
_UNIT = re.compile(r"\\(?:text|mathrm|mbox)\s*\{\s*[^{}\\]*\}(?:\^\{?\d\}?)?$")
_NUMERAL = re.compile(r"(-?\d+(?:\.\d+)?)_\{?(\d+)\}?")
_FREE = re.compile(r"^[a-zA-Z]{1,2}\s*(?:=|\\in(?![a-z]))\s*")


@dataclass(frozen=True, slots=True)
class Shape:
    """``kind`` is ``one``, ``list``, the two brackets, or the size of a matrix; ``items`` are its formulas."""

    kind: str
    items: tuple[str, ...]


def settle(answer: str, gold: str) -> bool | None:
    """The verdict where the shapes of the two answers settle it, else None."""
    if _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(gold):
        return int(answer) == int(gold)
    mine, right = clean(answer), clean(gold)
    if not mine or not right:
        return False
    if mine == right:
        return True
    if max(len(mine), len(right)) > LONGEST:
        return None
    words = _words(answer), _words(gold)
    if words[0] is not None and words[1] is not None:
        if _letters(words[0]) == _letters(words[1]) and "," not in words[0] + words[1]:
            return True
        # Letters in another order may be a list in another order.
        return False if sorted(_letters(words[0])) != sorted(_letters(words[1])) else None
    if any(words):
        plain = right if words[0] else mine
        if re.fullmatch(r"[A-Za-z]{2,}", plain):
            return True if _letters(words[0] or words[1] or "") == plain.lower() else None
        other = shape_of(plain)
        if other is None or not _readable(other):
            return None
        # Letters may be what the words say: C,E and \\text{C,E}.
        found = set(re.findall(r"[a-z]", _NAMES.sub("", _UNIT.sub("", plain)).lower()))
        return None if found and found <= set(_letters(words[0] or words[1] or "")) else False
    if "%" in mine or "%" in right:
        return _same_percent(mine, right)
    if "_" in mine or "_" in right:
        return _same_numeral(mine, right)
    frees = _FREE.match(mine), _FREE.match(right)
    if frees[0] is not None or frees[1] is not None:
        bare = settle(_FREE.sub("", mine), _FREE.sub("", right))
        if frees[0] is not None and frees[1] is not None and frees[0][0] == frees[1][0]:
            return bare
        # One names its unknown: the values decide, as math-verify has it. Two unknowns: x = y may be y = x.
        if "\\in" in mine + right:
            return False if bare is False and (_rational(mine) or _rational(right)) else None
        return bare if None in frees else None
    if "\\cup" in mine or "\\cup" in right:
        return _same_union(mine, right)
    if mine.count("=") == 1 == right.count("="):
        return _same_equation(mine.split("="), right.split("="))
    if {mine.count("="), right.count("=")} == {0, 1}:
        return _equation_and_value(*((mine, right) if "=" in mine else (right, mine)))
    a, b = shape_of(mine), shape_of(right)
    return None if a is None or b is None else _same_shape(a, b)


def _same_equation(a: Sequence[str], b: Sequence[str]) -> bool | None:
    """Equations of at most second degree without a square in them: different where one is no multiple of the other.

    The degree is seen from four points on a line, on which both sides are polynomials of one variable.
    """
    try:
        f, g = ([complex(evaluate(e[0], p)) - complex(evaluate(e[1], p)) for p in range(4)] for e in (a, b))
    except (Unreadable, OverflowError):
        return None
    if re.search(r"[ie\\]", "".join((*a, *b)).replace("\\frac", "")) or not all((*f, *g)):
        return None
    if not (_plain_quadratic(f) and _plain_quadratic(g)):
        return None
    ratios = [x / y for x, y in zip(f, g, strict=True)]
    return False if max(abs(ratio - ratios[0]) for ratio in ratios) > APART * abs(ratios[0]) else None


def _equation_and_value(equation: str, other: str) -> bool | None:
    """An equation of formulas is no point, and no value that neither of its sides has."""
    sides, shape = equation.split("="), shape_of(other)
    if shape is None or not _readable(Shape("list", (*sides, *shape.items))):
        return None
    if shape.kind == "one":
        return False if all(same_value(side, other) is False for side in sides) else None
    return False if shape.kind not in ("list", "{}") else None


def _plain_quadratic(values: Sequence[complex]) -> bool:
    """Values at 0, 1, 1/2 and 2 of a polynomial of second degree at most that has no double root."""
    at0, at1, half, at2 = values
    a = 2 * (at0 - 2 * half + at1)
    b = at1 - at0 - a
    size = max(abs(value) for value in values)
    fits = abs(4 * a + 2 * b + at0 - at2) < APART * size
    return fits and (abs(a) < APART * size < abs(b) or abs(b * b - 4 * a * at0) > APART * size)


def _same_shape(a: Shape, b: Shape) -> bool | None:
    if not _readable(a) or not _readable(b):
        return None
    unordered = a.kind in ("list", "{}")
    if a.kind != b.kind or (unordered and len(a.items) != len(b.items)):
        # math-verify has rules for a list and a point, or an open interval and a point: only other values are settled.
        return False if _strangers(a.items, b.items) or (len(a.items) != len(b.items) and not unordered) else None
    if len(a.items) != len(b.items):
        return False
    if unordered:
        return _same_set(a.items, b.items)
    return _all([same_value(x, y) for x, y in zip(a.items, b.items, strict=True)])


def _same_percent(a: str, b: str) -> bool | None:
    """Percentages: different where neither the numbers nor the shares they stand for are equal."""
    parts = [re.fullmatch(r"(-?\d+(?:\.\d+)?)(\s*\\?%)?", text) for text in (a, b)]
    if parts[0] is None or parts[1] is None:
        part, other = parts[0] or parts[1], b if parts[0] else a
        if part is None:
            return None
        if _stranger_to_number(other):
            return False
        # A closed form is neither the number nor the share.
        shares = (f"\\frac{{{part[1]}}}{{100}}", part[1])
        return False if all(same_value(share, other) is False for share in shares) else None
    numbers = [Fraction(part[1]) for part in parts if part is not None]
    if parts[0][2] and parts[1][2]:
        return numbers[0] == numbers[1] if "." not in a + b else None
    if numbers[0] == numbers[1] and "." not in a + b:
        return True
    share = (numbers[0] / 100, numbers[1]) if parts[0][2] else (numbers[0], numbers[1] / 100)
    return False if abs(numbers[0] - numbers[1]) > APART_DECIMAL < abs(share[0] - share[1]) else None


def _stranger_to_number(text: str) -> bool:
    """True for points, intervals and matrices of formulas: they are no number."""
    shape = shape_of(text)
    return shape is not None and shape.kind not in ("one", "{}") and len(shape.items) > 1 and _readable(shape)


def _same_numeral(a: str, b: str) -> bool | None:
    """Numerals with a base: different where the base is the same and a digit is not."""
    left, right = _NUMERAL.fullmatch(a), _NUMERAL.fullmatch(b)
    if left is None or right is None:
        plain = a if left is None else b
        found = right if left is None else left
        if found is not None and _stranger_to_number(plain):
            return False
        if found is None or not _is_number(plain):
            return None
        # math-verify may read no more than the first digits of a numeral.
        starts = [found[1][:end] for end in range(1, len(found[1]) + 1) if found[1][end - 1].isdigit()]
        return False if all(same_value(start, plain) is False for start in starts) else None
    if left[2] != right[2]:
        return None
    return False if left[1].lstrip("0") != right[1].lstrip("0") else None


def _same_union(a: str, b: str) -> bool | None:
    """Unions of intervals in rising order that do not touch, which are equal only piece by piece."""
    left, right = _pieces(a), _pieces(b)
    if left is None or right is None:
        return False if _is_value(a if right is not None else b) and (left or right) else None
    return False if len(left) != len(right) else _all([_same_shape(x, y) for x, y in zip(left, right, strict=True)])


def _is_value(text: str) -> bool:
    """True for a single value, a matrix, or a list of values: no set of intervals."""
    shape = None if "\\cup" in text else shape_of(text)
    return shape is not None and shape.kind not in ("()", "(]", "[)", "[]") and _readable(shape)


def _pieces(text: str) -> list[Shape] | None:
    pieces = [shape_of(part) for part in text.split("\\cup")]
    ends: list[float] = []
    for piece in pieces:
        if piece is None or len(piece.items) != 2 or piece.kind not in ("()", "(]", "[)", "[]"):
            return None
        try:
            ends += [_end(item) for item in piece.items]
        except (Unreadable, OverflowError):
            return None
    brackets = [(a.kind[1], b.kind[0]) for a, b in pairwise([p for p in pieces if p is not None])]
    touching = [low == high for low, high in zip(ends[1:-1:2], ends[2::2], strict=True)]
    rising = all(low <= high for low, high in pairwise(ends)) and all(
        lo < hi for lo, hi in zip(ends[::2], ends[1::2], strict=True)
    )
    if not rising or any(t and b != (")", "(") for t, b in zip(touching, brackets, strict=True)):
        return None
    return [piece for piece in pieces if piece is not None]


def _end(text: str) -> float:
    bare = text.lstrip("+")
    value = {"\\infty": math.inf, "-\\infty": -math.inf}.get(bare) or evaluate(text, 0)
    if isinstance(value, complex) and value.imag:
        raise Unreadable
    return value.real if isinstance(value, complex) else float(value)


def clean(answer: str) -> str:
    r"""An answer without dress: spacing commands, ``\left``, kinds of fraction, dollar signs, the final dot."""
    text = answer.strip().replace("−", "-")
    text = re.sub(r"\\[dtc]frac(?![a-z])", r"\\frac", text)
    text = re.sub(r"(?<=\d)(?:\{,\}|,\\!)(?=\d{3}(?!\d))", "", text)
    text = _DRESS.sub(" ", text)
    text = re.sub(r"\\(?:text|mathrm|mbox)\{\s*(-?\d+(?:\.\d+)?)\s*\}", r"\1", text)
    text = re.sub(r"\^\{?\s*\\circ\s*\}?", r"\\degree ", text)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\s*([-+*/=^_{}()\[\]<>|&]|,(?! \d{3}(?!\d)))\s*", r"\1", text)
    return re.sub(r"(?<=[^.}])\.$", "", text)


def shape_of(text: str) -> Shape | None:
    """The shape of a cleaned answer; None where brackets do not balance."""
    text = re.sub(r"^(-?[\d.]+|[^\\]*)\s*\\degree$", r"\1", text.strip()).strip()
    matrix = _MATRIX.fullmatch(text)
    if matrix is not None:
        rows = [row.split("&") for row in matrix[2].split("\\\\")]
        return Shape(f"{len(rows)}x{len(rows[0])}", tuple(cell for row in rows for cell in row))
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text) if _thousands(text) else text
    if text.startswith("\\{") and text.endswith("\\}"):
        inner = _split(text[2:-2])
        return None if inner is None else Shape("{}", inner)
    if text[:1] in ("(", "[") and text[-1:] in (")", "]"):
        inner = _split(text[1:-1])
        if inner is not None and len(inner) > 1:
            return Shape(text[0] + text[-1], inner)
    parts = _split(text)
    if parts is None:
        return None
    return Shape("one" if len(parts) == 1 else "list", parts)


def same_value(a: str, b: str) -> bool | None:
    """Whether two formulas have one value; None where that is not settled."""
    if a == b:
        return True
    if "\\infty" in a or "\\infty" in b:
        return (
            False
            if _infinite(a) != _infinite(b) and (_infinite(a) or _rational(a)) and (_infinite(b) or _rational(b))
            else None
        )
    bare = _UNIT.sub("", a), _UNIT.sub("", b)
    try:
        values = [(evaluate(bare[0], point), evaluate(bare[1], point)) for point in (0, 1)]
    except Unreadable:
        return None
    decimal = "." in a or "." in b
    verdicts = {_compare(x, y, decimal) for x, y in values}
    if False in verdicts:
        return False if verdicts == {False} else None
    # One may have a unit in words; two different ones are left to math-verify.
    units = [text.removeprefix(short) for text, short in zip((a, b), bare, strict=True)]
    if (all(units) and units[0] != units[1]) or ":" in a + b:
        return None
    if verdicts == {True} and all(map(_rational, bare)):
        return True
    # Letters alone may be a name instead of a product.
    if any(units) or any(re.fullmatch(r"[a-zA-Z]+", text) for text in bare):
        return None
    form = canonical(bare[0])
    return True if form is not None and form == canonical(bare[1]) else None


def _infinite(text: str) -> str:
    return text if re.fullmatch(r"[-+]?\\infty", text) else ""


def _compare(x: Value, y: Value, decimal: bool) -> bool | None:
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        if x == y:
            return True
        return False if abs(x - y) > (APART_DECIMAL if decimal else SMALLEST) else None
    try:
        left, right = complex(x), complex(y)
    except OverflowError:
        return None
    difference, size = abs(left - right), max(abs(left), abs(right))
    return False if difference > (APART_DECIMAL if decimal else SMALLEST) and difference > APART * size else None


def _rational(text: str) -> bool:
    """True for a formula without letters whose value is a fraction."""
    try:
        return isinstance(evaluate(text, 0), Fraction) and not _has_letter(text)
    except Unreadable:
        return False


def _is_number(text: str) -> bool:
    """True for a formula without letters."""
    return not _has_letter(text) and _readable(Shape("one", (text,)))


def _has_letter(text: str) -> bool:
    return re.search(r"[a-zA-Z]", re.sub(r"\\[a-z]+", "", _UNIT.sub("", text))) is not None


def _readable(shape: Shape) -> bool:
    try:
        for item in shape.items:
            if not _infinite(item):
                evaluate(_UNIT.sub("", item), 0)
    except Unreadable:
        return False
    return True


def _strangers(a: Sequence[str], b: Sequence[str]) -> bool:
    """True where an item of one list differs from every item of the other."""
    grid = [[same_value(x, y) for y in b] for x in a]
    return any(all(cell is False for cell in row) for row in [*grid, *zip(*grid, strict=True)])


def _same_set(a: Sequence[str], b: Sequence[str]) -> bool | None:
    """Lists without order: equal where every item of one has its own exact partner in the other."""
    if _strangers(a, b):
        return False
    partners = [[j for j, y in enumerate(b) if same_value(x, y) is True] for x in a]
    if all(len(found) == 1 for found in partners) and len({found[0] for found in partners}) == len(b):
        return True
    return None


def _all(verdicts: Sequence[bool | None]) -> bool | None:
    if False in verdicts:
        return False
    return True if None not in verdicts else None


def _words(answer: str) -> str | None:
    r"""The words of an answer that is nothing but one ``\text{...}``, or bare words."""
    text = answer.strip().strip("$").rstrip(".").strip()
    match = _WORDS.fullmatch(text)
    if match is not None and re.search(r"[A-Za-z]", match[1]) and not re.search(r"\d", match[1]):
        return match[1]
    return None


def _letters(words: str) -> str:
    return re.sub(r"[^a-z]", "", words.lower())


def _thousands(text: str) -> bool:
    return re.fullmatch(r"-?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?", text) is not None


def _split(text: str) -> tuple[str, ...] | None:
    """The parts between top-level commas; None where brackets do not balance."""
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth < 0:
                return None
        elif char == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return (*(part.strip() for part in parts), text[start:].strip()) if depth == 0 else None
