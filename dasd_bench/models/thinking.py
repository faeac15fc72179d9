"""Think blocks: where the answer begins behind one, as text and as tokens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

THINK, THINK_END = "<think>", "</think>"
SWITCHES = ("enable_thinking", "thinking")
"""What templates call the argument that turns thinking on and off."""

THOUGHTS = (f"{THINK}\nSo it is.\n{THINK_END}\n\n", f"{THINK}So it is.{THINK_END}\n")
"""Think blocks as templates write them before an answer, to see which of them a template keeps."""


def answer_text(text: str, *, opened: bool = False) -> str:
    """The text behind the last think block; all of it where there is none, nothing where a block is not closed.

    ``opened`` says that the prompt has opened a block already. A closed block is cut as lm-eval's ``think_end_token``
    cuts it.
    """
    if THINK_END in text:
        return text.split(THINK_END)[-1].lstrip()
    return "" if opened or THINK in text else text


def answer_start(tokenizer: Any, token_ids: Sequence[int], *, opened: bool = False) -> int:
    """The index of the first token of :func:`answer_text`; the number of tokens where a block is not closed."""
    ids = list(token_ids)
    text = tokenizer.decode(ids)
    if THINK_END not in text:
        return len(ids) if opened or THINK in text else 0
    end = text.rindex(THINK_END) + len(THINK_END)
    start = bisect_left(range(len(ids)), end, key=lambda i: len(tokenizer.decode(ids[: i + 1]))) + 1
    while start < len(ids) and not tokenizer.decode(ids[start : start + 1]).strip():
        start += 1
    return start
