"""Prose said in other words, by rules that change no number, name, operator or answer marker."""

from __future__ import annotations

import re

from dasd_bench.methods.edits.arithmetic import NUMBER
from dasd_bench.methods.edits.edited import Edited, replaced

SYNONYMS = {
    "so": "therefore",
    "therefore": "so",
    "thus": "hence",
    "hence": "thus",
    "because": "since",
    "then": "after that",
    "in total": "altogether",
    "in all": "altogether",
    "altogether": "in total",
    "need to": "have to",
    "have to": "need to",
    "calculate": "compute",
    "compute": "calculate",
    "find": "work out",
    "find out": "work out",
    "let's": "let us",
    "buys": "purchases",
    "bought": "purchased",
    "gets": "receives",
    "got": "received",
    "gives": "hands",
    "gave": "handed",
    "begins": "starts",
    "starts": "begins",
    "started": "began",
    "this means": "that means",
    "is equal to": "equals",
    "amount": "quantity",
    "big": "large",
    "large": "big",
    "small": "little",
    "money": "cash",
    "kids": "children",
    "children": "kids",
    "left": "remaining",
}
"""Each is put in for the other where it stands alone; case of the first letter is kept."""

_RULE = re.compile(r"\b(" + "|".join(sorted(map(re.escape, SYNONYMS), key=len, reverse=True)) + r")\b", re.IGNORECASE)
_SENTENCE = re.compile(r"(?:\A|(?<=[.!?;] )|(?<=\n))(?=[A-Z0-9$])")
_SYMBOLS = re.compile(r"[-+*/=×÷<>%$#^]|(?<=\s)x(?=\s)")

OPENERS = ("Now, ", "Next, ", "Here, ")
"""Put before sentences where no rule of :data:`SYNONYMS` applies."""


def reworded(text: str) -> Edited | None:
    """The text in other words; None where no rule applies."""
    parts = []
    for match in _RULE.finditer(text):
        new = SYNONYMS[match.group().lower()]
        parts.append((match.start(), match.end(), new[0].upper() + new[1:] if match.group()[0].isupper() else new))
    if not parts:
        starts = [match.start() for match in _SENTENCE.finditer(text)]
        parts = [(at, at, OPENERS[number % len(OPENERS)]) for number, at in enumerate(starts)]
        parts = [part for part in parts if not text[part[0] :].startswith("####")]
    edited = replaced(text, parts) if parts else None
    return edited if edited is not None and content(edited.after) == content(text) else None


def content(text: str) -> list[str]:
    """The numbers and operators of a text in order: what a change of style must leave alone."""
    found = [(match.start(), match.group()) for form in (NUMBER, _SYMBOLS) for match in form.finditer(text)]
    return [part for _, part in sorted(found)]
