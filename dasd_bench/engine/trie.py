"""A compressed trie of token sequences: what several requests have in common is one run of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]


@dataclass(slots=True)
class Node:
    """A run of tokens: positions ``start`` to ``end`` of ``tokens`` (a whole sequence that passes through here).

    ``sequences`` counts the distinct sequences at or below; ``size`` the tokens of this run and all below;
    ``ends`` is the sequence that ends with this run, or None.
    """

    tokens: Tokens
    start: int
    end: int
    parent: Node | None
    sequences: int
    children: list[Node] = field(default_factory=list)
    ends: int | None = None
    size: int = 0

    @property
    def run(self) -> Tokens:
        """The tokens of this run."""
        return self.tokens[self.start : self.end]


def common_length(first: Tokens, second: Tokens, known: int = 0) -> int:
    """How many leading tokens two sequences share; the first ``known`` are taken as equal."""
    limit = min(len(first), len(second))
    differ = np.flatnonzero(first[known:limit] != second[known:limit])
    return known + int(differ[0]) if len(differ) else limit


def build(sequences: Sequence[Tokens]) -> list[Node]:
    """The trie's first nodes, one per first token, in token order. ``sequences`` are distinct and not empty."""
    # Big-endian bytes sort as the token ids do.
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">i8").tobytes())
    roots: list[Node] = []
    made: list[Node] = []
    stack: list[tuple[int, int, int, Node | None]] = [(0, len(order), 0, None)] if order else []
    while stack:
        low, high, depth, parent = stack.pop()
        low_end = low
        while low_end < high:
            token = sequences[order[low_end]][depth]
            stop = low_end + 1
            while stop < high and sequences[order[stop]][depth] == token:
                stop += 1
            first, last = sequences[order[low_end]], sequences[order[stop - 1]]
            end = common_length(first, last, depth)
            node = Node(first, depth, end, parent, stop - low_end)
            made.append(node)
            (roots if parent is None else parent.children).append(node)
            rest = low_end
            if len(first) == end:
                node.ends = order[low_end]
                rest += 1
            if rest < stop:
                stack.append((rest, stop, end, node))
            low_end = stop
    for node in reversed(made):
        node.size = node.end - node.start + sum(child.size for child in node.children)
    return roots
