r"""Finds final answers in text and compares them: numbers, LaTeX, choices. No torch, no lm-eval.

Extraction looks for what the text declares as its answer, strongest sign first: ``\boxed{}``, ``#### n``, "the answer
is n" (of "the answer is 18 + 24 = 42" what it comes to), and last the last number. Each grader gives a
:class:`~dasd_bench.types.Verdict`, so that a missing answer and a wrong one are never mixed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from dasd_bench.tasks.base import verdict_of
from dasd_bench.types import Verdict

NUMBER = r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+"
LONGEST = 1000
"""Characters of a number beyond which it is no answer but runaway text; Python reads no integer of 4300 digits."""

_DRESS = r"(?:\\\(|\\\[|\$|\*|\s)*"
_VALUE = rf"-?\\[dtc]?frac\s*(?:\{{-?\d+\}}|\d)\s*(?:\{{-?\d+\}}|\d)|(?:{NUMBER})(?:/\d+)?"
_LAST_NUMBER = re.compile(rf"(?<![\w.])(?:{NUMBER})(?:/\d+)?")
_HASHES = re.compile(rf"####\s*\$?\s*((?:{NUMBER})(?:/\d+)?)")
_DECLARED = re.compile(rf"answer\s*(?:is|:|=)+\s*{_DRESS}({_VALUE})(?=([^\n]*))", re.IGNORECASE)
_WORKED_OUT = re.compile(
    r"\s*(?:[a-zA-Z]+\s+)?(?:[-+*/×÷−^]|x(?=\s*\d)|\\times|\\cdot|\\div)\s*[-$(\d\\]"
    rf"(?:(?![.;!?](?:\s|$)).)*=\s*{_DRESS}({_VALUE})"
)
"""What follows the first number of "18 + 24 = 42.": to the last equals sign of the sentence."""
_CALCULATOR = re.compile(r"<<[^<>]*>>")
_LETTER = re.compile(
    # A capital, or any label that nothing but punctuation follows: "the answer is a thermometer" names no letter.
    r"(?i:answer|choice|option)\s*(?i:is)?\s*:?\s*\(?\**(?:([A-Z])\b(?!['’])|([a-z1-9])(?=\**\s*(?:[).:]|$)))"
    r"|^\s*\(?\**([a-zA-Z1-9])\**\s*(?:[).:]|$)",
    re.MULTILINE,
)
_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")


def strip_calculator_marks(text: str) -> str:
    """A GSM8K answer without its calculator marks: ``48/2=<<48/2=24>>24`` becomes ``48/2=24``."""
    return _CALCULATOR.sub("", text)


def steps(answer: str) -> str:
    """The number of steps of a GSM8K answer: its lines before ``####`` that are not blank."""
    return str(sum(bool(line.strip()) for line in answer.rpartition("####")[0].splitlines()))


def last_boxed(text: str) -> str | None:
    r"""The inside of the last ``\boxed{...}`` or ``\fbox{...}`` that is closed and not empty; ``\boxed 5`` gives ``5``.

    Empty where all closed ones are, None where there is none.
    """
    boxes = list(_BOX.finditer(text))
    closing = _closing_braces(text) if boxes else {}
    found = None
    for box in reversed(boxes):
        start = box.end()
        if text.startswith("{", start):
            inside = text[start + 1 : closing[start]].strip() if start in closing else None
        else:
            inside = next(iter(text[start:].split("$", 1)[0].split(None, 1)), None)
        if inside:
            return inside
        found = inside if found is None else found
    return found


def _closing_braces(text: str) -> dict[int, int]:
    """Where each closed brace of a text is closed, by where it is opened."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    for brace in re.finditer(r"[{}]", text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif opened:
            closing[opened.pop()] = brace.start()
    return closing


def number_in(text: str) -> Fraction | None:
    """The value of a text that is one number, whatever it is dressed in: ``$1,000.00``, ``50%``, ``12.``, ``3/4``.

    None for anything else, and for numbers of more than :data:`LONGEST` characters.
    """
    bare = re.sub(r"\\(?:text|mathrm|mbox)\{[^{}]*\}|\\[,;! ]|\\[$%]|[$%°*\s]", "", text).rstrip(".").replace("−", "-")
    bare = re.sub(r"^(-?)\\[dtc]?frac(?:\{(-?\d+)\}|(\d))(?:\{(-?\d+)\}|(\d))$", r"\1\2\3/\4\5", bare).replace("--", "")
    match = re.fullmatch(rf"({NUMBER})(?:/(-?\d+))?", bare)
    if match is None or len(bare) > LONGEST:
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
    declared = declared_number(text)
    if declared is not None:
        return declared
    numbers = _LAST_NUMBER.findall(text)
    return str(numbers[-1]) if numbers else None


def declared_number(text: str) -> str | None:
    """The number after the last ``####``, else after the last "answer is"; None where the text has neither."""
    hashes = _HASHES.findall(text)
    if hashes:
        return str(hashes[-1])
    declared = _DECLARED.findall(text)
    if not declared:
        return None
    value, rest = declared[-1]
    worked_out = _WORKED_OUT.match(rest)
    return worked_out[1] if worked_out is not None else str(value)


def declares_answer(text: str) -> bool:
    """True where a text says what its answer is: boxed, after ``####`` or as "the answer is n"."""
    return last_boxed(text) is not None or declared_number(text) is not None


def grade_number(text: str, answer: str) -> Verdict:
    """The verdict on a worked solution whose final answer is a number."""
    found = extract_number(text)
    return verdict_of(found, found is not None and same_number(found, answer))


def letters_shown(prompt: str, choices: Sequence[str], labels: Sequence[str]) -> bool:
    """True where a prompt lists the choices with their labels, such as ``A. light``, as the first two show."""
    return all(
        # Stock's arc_challenge_chat has the two characters "\n" where line ends are meant.
        re.search(rf"(?:\\n|\b){re.escape(label)}[.):]\s*{re.escape(choice.strip())}", prompt)
        for label, choice in zip(labels[:2], choices[:2], strict=True)
    )


def grade_choice(text: str, choices: Sequence[str], labels: Sequence[str], gold: int, lettered: bool = True) -> Verdict:
    """The verdict on a free-text answer to a multiple-choice question.

    Right is a text that names the right choice's letter and no other, or that holds its words and no other choice's (a
    choice that is part of another one counts only where it stands by itself). A text that holds several choices and no
    letter gives no answer. Letters go first where the question showed them (``lettered``), else the words.
    """
    letters = {next(filter(None, found)).upper() for found in _LETTER.findall(text)} & {la.upper() for la in labels}
    letter = letters.pop() if len(letters) == 1 else None
    named = None if letter is None else verdict_of(letter, letter == labels[gold].upper())
    if named is not None and lettered:
        return named
    low = f" {_words(text)} "
    present: list[int] = []
    for i in sorted(range(len(choices)), key=lambda i: -len(choices[i])):
        phrase = f" {_words(choices[i])} "
        if phrase.strip() and phrase in low:
            present.append(i)
            low = low.replace(phrase, " | ")
    if len(present) == 1:
        return verdict_of(choices[present[0]], present[0] == gold)
    return named if named is not None else verdict_of(None, False)


def _words(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.lower()))
