r"""Grades final answers in LaTeX: which piece of the text is the answer is decided here, whether it is right by
math-verify."""

from __future__ import annotations

import re

from dasd_bench.tasks.base import verdict_of
from dasd_bench.tasks.grading.characters import THIN, plain, undressed
from dasd_bench.tasks.grading.declared import FORMULA, Clause, clauses, filled_boxes, retracted
from dasd_bench.tasks.grading.numbers import declared_number, extract_number, number_in
from dasd_bench.tasks.grading.own_turn import own_turn
from dasd_bench.tasks.grading.verifier import Verifier
from dasd_bench.types import Verdict

_FORMULA = re.compile(FORMULA)
_AND = r"[\s$.\\()\[\]]*(?:,|;|\band\b|\bor\b|&)(?:\s*(?:and|or)\b)?"
_LISTED = re.compile(rf"{_AND}[\s$\\()\[\]]*")
_NEXT = re.compile(r"\s*(?:,|;|,?\s*\band\b|,?\s*\bor\b)\s*")
_PARTS = re.compile(r",(?!\\?!?\s*\d{3}(?!\d))|\\text\s*\{\s*,?\s*(?:and|or)\s*\}|\b(?:and|or)\b")
_SAYS = re.compile(r"^\\text\s*\{[^{}\d]*(?::|=|\bis|\bare)\s*\}\s*(?=\S)")
_SPACED = re.compile(r"^[-+]?\d{1,3}(?: \d{3})+$")
_SIGNS = str.maketrans(
    {
        "∞": "\\infty ",
        "≤": "\\leq ",
        "≥": "\\geq ",
        "≠": "\\neq ",
        "∪": "\\cup ",
        "∩": "\\cap ",
        "∈": "\\in ",
        "·": "\\cdot ",
    }
)
_ABOUT = re.compile(r"≈|\\approx(?![a-zA-Z])")
_HOPE = re.compile(r"\.?\s*I hope it is correct", re.IGNORECASE)
_REASON = re.compile(r",?\s+(?:because|since|as|which|where|so|for|if)\b", re.IGNORECASE)
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
_FUNCTION = re.compile(r"(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|and|or|cm|mm|km|kg|ft|mi|min|hr)", re.IGNORECASE)
_GROUPS = re.compile(rf"(?<=\d)(?:\\[,;: ]\s*|~|{THIN})(?=\d{{3}}(?!\d))")
_ROOT = re.compile(r"√\s*(?:(\d+|[a-zA-Z])|[({]([^(){}]*)[)}])")
_COUNTED = re.compile(r"^\\text\s*\{\s*([-+]?\d+(?:\.\d+)?)(\s[^{}\d]*)?\}$")
_EXPONENT = re.compile(r"^([-+]?\d+(?:\.\d+)?)[eE]([-+]?\d{1,3})$")
_MIXED = re.compile(r"^([-+]?\d+)\s+(\d+)/(\d+)$")
_IN_BASE = re.compile(r"[0-9A-F]+_\d+")
_HASHED = re.compile(r"^####[ \t]*(?!\d+[.)]\s)(\S[^\n]*)$", re.MULTILINE)
_DOTS = re.compile(r"\\(?:[lc]?dots[cbmio]?)(?![a-zA-Z])|…|\.\.\.")
_PADDING = re.compile(r"\s|\\(?:[,;:! ]|left|right|q?quad)(?![a-zA-Z])|\$")
_LONGEST_IN_WORDS = 40
"""Characters of an answer in words ("the answer is east"): more is a sentence."""


def extract_math(text: str, gold: str) -> str | None:
    """The final answer of a solution: boxed, declared, else the last formula; a number where ``gold`` is one.

    Boxes or formulas that are listed ("5 and 6") are one answer, and so are the last n boxes where ``gold`` has n parts
    and they have one each.
    """
    text = plain(text)
    found = filled_boxes(text)
    if found and not retracted(text, found[-1][1]):
        return _from_boxes(text, found, _parts(gold))
    numeric = number_in(gold) is not None
    for clause in clauses(text):
        said = _from_clause(clause, numeric)
        if said is not None:
            return said
    hashed = _HASHED.findall(text)
    if hashed and not numeric and (said := _from_clause(Clause(0, hashed[-1], False), numeric)) is not None:
        return said
    formulas = list(_FORMULA.finditer(text))
    if not numeric:
        return _group(text, formulas) if formulas else _alone(text)
    if declared_number(text) is None:
        # A number in a formula, unless text after it has one: what stands between formulas is looked at once.
        end = len(text)
        for formula in formulas[::-1]:
            if extract_number(text[formula.end() : end]) is not None:
                break
            value = _bare(formula[0]).rpartition("=")[2]
            if number_in(value) is not None:
                return value.strip()
            if extract_number(formula[0]) is not None:
                break
            end = formula.start()
    return extract_number(text)


def grade_math(text: str, answer: str, verifier: Verifier) -> Verdict:
    """The verdict on a solution whose right final answer is the LaTeX ``answer``."""
    found = extract_math(own_turn(text, lambda head: bool(filled_boxes(head) or next(clauses(head), None))), answer)
    if found is None:
        return verdict_of(None, False)
    if _is_literal(answer) and _is_literal(found):
        return verdict_of(found, _literal(answer) == _literal(found))
    reason = verifier.same(_tidy(plain(answer)), found)
    return Verdict(reason.value == "correct", reason, found)


def _is_literal(answer: str) -> bool:
    """Whether an answer is one that math-verify cannot tell from others: a number of another base, or dots."""
    return _IN_BASE.fullmatch(_literal(answer)) is not None or _DOTS.search(answer) is not None


def _literal(answer: str) -> str:
    bare = _DOTS.sub("...", _PADDING.sub("", answer))
    return re.sub(r"_\{(\d+)\}|_\\text\{(\d+)\}", r"_\1\2", bare)


def _from_boxes(text: str, found: list[tuple[int, int, str]], parts: int) -> str:
    """The last box, with those before it that are listed with it, or that make up an answer of several parts."""
    taken = [found[-1]]
    for box in reversed(found[:-1]):
        between = text[box[1] : taken[0][0]]
        if not _LISTED.fullmatch(between) and not (
            len(taken) < parts and all(_parts(b[2]) == 1 for b in (box, *taken))
        ):
            break
        taken.insert(0, box)
    return _tidy(", ".join(dict.fromkeys(inside for _, _, inside in taken)))


def _from_clause(clause: Clause, numeric: bool) -> str | None:
    """What a declaration says: its formula, or a short text; where a number is wanted, what can be read as one."""
    said = _HOPE.split(clause.text)[0].strip()
    listed = _leading(said)
    if listed is not None:
        if numeric and len(listed) == 1 and number_in(listed[0]) is None:
            value = extract_number(f"The answer is {said}")
            return value if value is not None and number_in(value) is not None else listed[0]
        return _tidy(", ".join(listed))
    if numeric:
        exact = _ABOUT.split(said)[0]
        if exact != said and number_in(exact) is not None:
            return _tidy(exact)
        value = declared_number(f"{'The final answer is' if clause.stated else 'Answer:'} {said}")
        return None if value is None else _tidy(value)
    said = _REASON.split(said)[0]
    formulas = list(_FORMULA.finditer(said))
    if formulas:
        return _group(said, formulas)
    bare = _tidy(said.strip("*_\"' "))
    words = [word for word in _WORD.findall(undressed(bare)) if not _FUNCTION.fullmatch(word)]
    return (
        bare if bare and (not words or (clause.stated and len(bare) <= _LONGEST_IN_WORDS and len(words) <= 2)) else None
    )


def _alone(text: str) -> str | None:
    """A text that is nothing but an answer: one line, in which no two words stand."""
    said = _tidy(text.strip(" \n*_"))
    words = [word for word in _WORD.findall(undressed(said)) if not _FUNCTION.fullmatch(word)]
    return said if said and "\n" not in said and (not words or not re.search(r"\s", said)) else None


def _leading(said: str) -> list[str] | None:
    """The formulas that a declaration begins with; None where it begins with something else."""
    found, at = [], 0
    while (formula := _FORMULA.match(said, at)) is not None:
        found.append(_bare(formula[0]))
        joined = _NEXT.match(said, formula.end())
        if joined is None:
            break
        at = joined.end()
    return found or None


def _group(text: str, formulas: list[re.Match[str]]) -> str | None:
    """The last formula, with those that are listed with it."""
    if not formulas:
        return None
    taken = [formulas[-1]]
    for formula in reversed(formulas[:-1]):
        if not re.fullmatch(r"\s*,?\s*(?:and|or)\s*", text[formula.end() : taken[0].start()]):
            break
        taken.insert(0, formula)
    return _tidy(", ".join(_bare(formula[0]) for formula in taken))


def _parts(answer: str) -> int:
    """The parts of an answer that are separated by commas, "and" or "or" outside of brackets."""
    if number_in(answer) is not None:
        return 1
    outside, depth = [], 0
    for piece in re.split(r"(\\?[(\[{]|\\?[)\]}])", re.sub(r"\\text\s*\{\s*,?\s*(and|or)\s*\}", r" \1 ", answer)):
        if piece[-1:] in "([{" and piece:
            depth += 1
        elif piece[-1:] in ")]}" and piece:
            depth -= 1
        elif depth == 0:
            outside.append(piece)
    return 1 + len(_PARTS.findall("()".join(outside)))


def _bare(formula: str) -> str:
    r"""A formula without the dollar signs, ``\(`` or ``\[`` around it."""
    inside = formula.strip()
    for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if inside.startswith(left) and inside.endswith(right) and len(inside) > len(left) + len(right):
            return inside[len(left) : -len(right)].strip()
    return inside


def _tidy(answer: str) -> str:
    """An answer as math-verify reads it: without the punctuation of its sentence, digits ungrouped, roots and powers of
    ten in LaTeX."""
    answer = re.sub(r"(?:(?<![.\\])\s*\.|(?<!\\)[,;]|\\\\)$", "", answer.strip()).strip()
    answer = _GROUPS.sub("", _SAYS.sub("", answer)).translate(_SIGNS).strip()
    answer = re.sub(r"(?:\\[,;: ]|~|\s)+(?=\\?%)", "", re.sub(r"^``(.*)''$", r"\1", answer))
    if _SPACED.match(answer):
        answer = answer.replace(" ", "")
    answer = re.sub(r"°|\^\s*°|\\degree(?![a-zA-Z])", r"^\\circ", answer).replace("\\varnothing", "\\emptyset")
    answer = re.sub(r"\\text\s*\{\s*(?:and|or)?\s*\}$", "", answer).strip()
    answer = _MIXED.sub(r"\1\\frac{\2}{\3}", answer)
    answer = _ROOT.sub(r"\\sqrt{\1\2}", answer)
    answer = _COUNTED.sub(r"\1\\text{\2}", answer)
    return _EXPONENT.sub(r"\1 \\times 10^{\2}", answer)
