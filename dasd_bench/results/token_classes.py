"""Kinds of token: numbers and operators, wording, format and end. "Numeric" is a proxy for what carries the solution.

Told by the text of a token alone, so it holds for every tokenizer; what the task marks as answer format and what ends
a turn is format whatever it looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum

import numpy as np

from dasd_bench.types import Bytes, Ints, Mark

OPERATORS = frozenset("+-*/=<>%^×÷·√±≤≥≈≠$")
"""A token of these alone is an operator; a hyphen and a bullet are taken for one, too."""

FORMATTING = frozenset("#`|")
"""A token of these alone is format, as is one of white space with a line break."""


class TokenClass(IntEnum):
    """Stored as uint8."""

    WORDING = 0
    NUMERIC = 1
    FORMAT = 2


NAMES = {TokenClass.NUMERIC: "numeric", TokenClass.WORDING: "wording", TokenClass.FORMAT: "format"}


def class_of(text: str) -> TokenClass:
    """The class of one token's text."""
    bare = text.strip()
    if not bare:
        return TokenClass.FORMAT if "\n" in text else TokenClass.WORDING
    if any(char.isdigit() for char in bare) or set(bare) <= OPERATORS:
        return TokenClass.NUMERIC
    return TokenClass.FORMAT if set(bare) <= FORMATTING else TokenClass.WORDING


class TokenClasses:
    """Classes of token ids. ``text_of`` gives one token's text, ``special`` ids are format; what was seen is kept."""

    def __init__(self, text_of: Callable[[int], str], special: Sequence[int] = ()) -> None:
        self._text_of = text_of
        self._known: dict[int, int] = dict.fromkeys(special, int(TokenClass.FORMAT))

    def __call__(self, ids: Ints, marks: Bytes | None = None) -> Bytes:
        """uint8 [T] of :class:`TokenClass`; ``marks`` other than PLAIN make a token format."""
        found = np.array([self._one(int(token)) for token in ids], dtype=np.uint8)
        if marks is not None:
            found[marks != Mark.PLAIN] = TokenClass.FORMAT
        return found

    def _one(self, token: int) -> int:
        if token not in self._known:
            self._known[token] = int(class_of(self._text_of(token)))
        return self._known[token]
