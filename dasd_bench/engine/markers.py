"""Which candidates belong to a piece of answer format at the place where they would stand, while decoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Markers:
    """Finds candidates that begin or go on a marker such as ``\\boxed`` or ``The answer is``.

    What follows a candidate is not known yet: one that begins a marker counts where it is a whole first piece of it, as
    the tokenizer cuts it, so ``\\`` counts although ``\\frac`` may follow, while ``box`` counts after ``\\`` alone.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._pieces: dict[int, str] = {}
        self._first: dict[str, frozenset[str]] = {}

    def touched(self, tokens: Sequence[int], candidate: int, markers: Sequence[str]) -> bool:
        """True where ``candidate`` after ``tokens`` holds characters of a marker, whole or begun."""
        longest = max((len(marker) for marker in markers), default=0)
        before = ""
        for token in reversed(tokens):
            if len(before) >= longest:
                break
            before = self._piece(token) + before
        piece = self._piece(candidate)
        text = before + piece
        for marker in markers:
            for start in range(max(0, len(before) - len(marker) + 1), len(text)):
                there = text[start : start + len(marker)]
                if not marker.startswith(there):
                    continue
                # Begun here and not finished: only a piece that the marker itself begins with.
                if start < len(before) or there == marker or there in self._beginnings(marker):
                    return True
        return False

    def _piece(self, token: int) -> str:
        """A token's text as it follows other text."""
        if token not in self._pieces:
            decode = self._tokenizer.decode
            anchor = self._anchor()
            self._pieces[token] = decode([*anchor, token], skip_special_tokens=True)[len(decode(anchor)) :]
        return self._pieces[token]

    def _anchor(self) -> list[int]:
        anchor: list[int] = self._tokenizer.encode("a", add_special_tokens=False)
        return anchor

    def _beginnings(self, marker: str) -> frozenset[str]:
        """What the first token of the marker writes of it, at the beginning of a text, after a space and a line end."""
        if marker not in self._first:
            found = set()
            for before in ("", " ", "\n"):
                written = ""
                for token in self._tokenizer.encode(before + marker, add_special_tokens=False):
                    written += self._piece(token)
                    if part := written.lstrip():
                        found.add(part)
                        break
            self._first[marker] = frozenset(found)
        return self._first[marker]
