r"""Finds final answers in text and compares them: numbers, LaTeX, choices. No torch, no lm-eval.

Extraction looks for what the text declares as its answer, strongest sign first: ``\boxed{}``, ``#### n``, "the answer
is n", and last the last number. Each grader gives a :class:`~dasd_bench.records.Verdict`, so that a missing answer and
a wrong one are never mixed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from dasd_bench.records import Verdict
from dasd_bench.task import verdict_of

NUMBER = r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+"
_LAST_NUMBER = re.compile(rf"(?<![\w.])(?:{NUMBER})")
_HASHES = re.compile(rf"####\s*\$?\s*({NUMBER})")
_DECLARED = re.compile(rf"(?:final\s+answer|answer|result)\s*(?:is|:|=)+\s*(?:\\\(|\$|\*|\s)*({NUMBER})", re.IGNORECASE)
_CALCULATOR = re.compile(r"<<[^<>]*>>")
_LETTER = re.compile(
    r"(?:answer|choice|option)\s*(?:is|:)?\s*\(?\**([A-Z1-9])\b(?!['’])|^\s*\(?\**([A-Z1-9])\**\s*(?:[).:]|$)",
    re.IGNORECASE | re.MULTILINE,
)


def strip_calculator_marks(text: str) -> str:
    """A GSM8K answer without its calculator marks: ``48/2=<<48/2=24>>24`` becomes ``48/2=24``."""
    return _CALCULATOR.sub("", text)


def last_boxed(text: str) -> str | None:
    r"""The inside of the last ``\boxed{...}`` or ``\fbox{...}``, braces balanced; ``\boxed 5`` gives ``5``."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if start < 0:
        return None
    rest = text[start:].split("ed" if text.startswith("\\boxed", start) else "box", 1)[1].lstrip()
    if not rest.startswith("{"):
        return rest.split("$")[0].split()[0] if rest.split("$")[0].split() else None
    depth = 0
    for i, char in enumerate(rest):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth == 0:
            return rest[1:i].strip()
    return None


def number_in(text: str) -> Fraction | None:
    """The value of a text that is one number, whatever it is dressed in: ``$1,000.00``, ``50%``, ``12.``, ``3/4``."""
    bare = re.sub(r"\\(?:text|mathrm|mbox)\{[^{}]*\}|\\[,;! ]|\\[$%]|[$%°*\s]", "", text).rstrip(".").replace("−", "-")
    bare = re.sub(r"^(-?)\\[dt]?frac\{(-?\d+)\}\{(-?\d+)\}$", r"\1\2/\3", bare).replace("--", "")
    match = re.fullmatch(rf"({NUMBER})(?:/(-?\d+))?", bare)
    if match is None:
        return None
    denominator = int(match.group(2) or 1)
    return Fraction(match.group(1).replace(",", "")) / denominator if denominator else None


def same_number(a: str, b: str) -> bool:
    """True where both texts are numbers of equal value: ``1,000`` and ``1000``, ``5.0`` and ``5``, ``$7`` and ``7.``"""
    left, right = number_in(a), number_in(b)
    return left is not None and left == right


def extract_number(text: str) -> str | None:
    """The number a text gives as its answer; None where it has no number at all."""
    boxed = last_boxed(text)
    if boxed is not None and number_in(boxed) is not None:
        return boxed
    for pattern in (_HASHES, _DECLARED):
        found = pattern.findall(text)
        if found:
            return str(found[-1])
    numbers = _LAST_NUMBER.findall(text)
    return str(numbers[-1]) if numbers else None


def declares_answer(text: str) -> bool:
    """True where a text says what its answer is: boxed, after ``####`` or as "the answer is n"."""
    return last_boxed(text) is not None or bool(_HASHES.search(text)) or bool(_DECLARED.search(text))


def grade_number(text: str, answer: str) -> Verdict:
    """The verdict on a worked solution whose final answer is a number."""
    found = extract_number(text)
    return verdict_of(found, found is not None and same_number(found, answer))


def grade_choice(text: str, choices: Sequence[str], labels: Sequence[str], gold: int) -> Verdict:
    """The verdict on a free-text answer to a multiple-choice question.

    Right is a text that holds the right choice's words and no other choice's (a choice that is part of another one
    counts only where it stands by itself), or that names its letter and no other. A text that holds several choices
    and no letter gives no answer.
    """
    letters = {(a or b).upper() for a, b in _LETTER.findall(text)} & {label.upper() for label in labels}
    if len(letters) == 1:
        letter = letters.pop()
        return verdict_of(letter, letter == labels[gold].upper())
    low = f" {_words(text)} "
    present: list[int] = []
    for i in sorted(range(len(choices)), key=lambda i: -len(choices[i])):
        phrase = f" {_words(choices[i])} "
        if phrase.strip() and phrase in low:
            present.append(i)
            low = low.replace(phrase, " | ")
    if len(present) != 1:
        return verdict_of(None, False)
    return verdict_of(choices[present[0]], present[0] == gold)


def _words(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.lower()))
