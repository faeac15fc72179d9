"""A text before and after replacements, with the places that differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from dasd_bench.types import Bools

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Edited:
    """``after`` is ``before`` with some places replaced; ``spans`` are those places in ``after``, in order."""

    before: str
    after: str
    spans: tuple[Span, ...]


def replaced(text: str, parts: Iterable[tuple[int, int, str]]) -> Edited:
    """``text`` with each (start, end, new) put in; the parts must not overlap."""
    pieces: list[str] = []
    spans: list[Span] = []
    at = length = 0
    for start, end, new in sorted(parts):
        pieces += [text[at:start], new]
        length += start - at
        spans.append((length, length + len(new)))
        length += len(new)
        at = end
    return Edited(text, "".join([*pieces, text[at:]]), tuple(spans))


def undone(text: str, start: int, end: int, new: str) -> Edited:
    """The edit that mends ``text`` with (start, end) replaced by ``new``: it gives ``text``, and marks that place."""
    return Edited(text[:start] + new + text[end:], text, ((start, end),))


def edited_tokens(edited: Edited, text: str, ends: Sequence[int]) -> Bools:
    """Bool [T]: the tokens of the edited places, where ``text`` is what the tokens of ``edited.after`` decode to.

    A tokenizer or a prompt may put a blank before the answer.
    """
    shift = max(0, text.find(edited.after))
    return changed_tokens(text, ends, [(start + shift, end + shift) for start, end in edited.spans])


def changed_tokens(text: str, ends: Sequence[int], spans: Sequence[Span]) -> Bools:
    """Bool [T]: the tokens that write a part of ``spans``; ``ends`` are where the text of each token ends.

    Blanks at the beginning of a token belong to no place, so that a word behind an inserted one does not count.
    """
    found = np.zeros(len(ends), dtype=np.bool_)
    start = 0
    for number, end in enumerate(ends):
        bare = start + len(text[start:end]) - len(text[start:end].lstrip())
        found[number] = any(bare < last and end > first for first, last in spans)
        start = end
    return found
