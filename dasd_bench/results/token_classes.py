"""Kinds of token: numbers and operators, wording, format and end. "Numeric" is a proxy for what carries the solution.

Told by the text of a token alone, so it holds for every tokenizer; what the task marks as answer format and what ends
a turn is format whatever it looks like.
"""

from __future__ import annotations

import io
import re
import tokenize
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


_FENCE = re.compile(r"```[a-zA-Z]*\n(.*?)(?:```|\Z)", re.DOTALL)


def program_kinds(text: str, ends: Sequence[int]) -> list[str]:
    """The kind of each token of an answer that is a Python program: ``numeric`` (numbers, operators), ``name``
    (names and keywords), ``wording`` (comments, strings, prose around the program) or ``format`` (all else).

    ``ends`` are where the text of each token ends. A program that stops in the middle is read as far as it goes.
    """
    fence = _FENCE.search(text)
    first, last = (fence.start(1), fence.end(1)) if fence else (0, len(text))
    code = text[first:last]
    starts = [first]
    for line in code.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    kinds = ["format" if first <= at < last else "wording" for at in range(len(text))]
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            kind = _program_kind(token)
            if kind:
                start, end = (starts[row - 1] + column for row, column in (token.start, token.end))
                kinds[start:end] = [kind] * (end - start)
    except (tokenize.TokenError, SyntaxError):
        pass
    found, start = [], 0
    for end in ends:
        bare = start + len(text[start:end]) - len(text[start:end].lstrip())
        found.append(kinds[bare] if bare < end else "format")
        start = end
    return found


def _program_kind(token: tokenize.TokenInfo) -> str:
    if token.type == tokenize.NAME:
        return "name"
    if token.type == tokenize.NUMBER or (token.type == tokenize.OP and set(token.string) <= OPERATORS | {"!", "&"}):
        return "numeric"
    return "wording" if token.type in (tokenize.COMMENT, tokenize.STRING) else ""
