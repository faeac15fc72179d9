"""The contexts that decode together: admitted in groups, advanced one token at a time, dropped when done.

An item has one context (plain decoding) or two (dual decoding), and every token goes to all of its contexts. Both
sessions give the same hidden states up to rounding; :class:`PlainSession` is transformers' own cache and attention.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dasd_bench.engine.attention_metadata import Copy, StepMetadata, Tree, tree_of
from dasd_bench.engine.cuda_graphs import FixedShapeSteps
from dasd_bench.engine.kv_cache import KVCache, Prefix
from dasd_bench.engine.model_runner import ModelRunner
from dasd_bench.engine.tree_metadata import build_tree_metadata
from dasd_bench.engine.trie import Node, Tokens, build

COPY_TOKENS = 16
"""A prefix that several items share is computed once from this length on."""

REFERENCE_TOKENS = 128
"""From this length on a shared prefix stays in one place and rows attend to it there; shorter ones are copied."""

SHARERS = 4
"""Contexts that must share a prefix before it is computed apart."""

Prompts = Sequence[Tokens]
"""The contexts of one item, int64 each."""


class Session(Protocol):
    """What the decoder needs of a session. Contexts of item i are rows i*width to (i+1)*width - 1."""

    def admit(self, items: Sequence[Prompts]) -> Tensor:
        """Computes the prompts; hidden states [items * width, d] of their last tokens."""

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Advances every row by its token; hidden states [live * width, d], valid until the next step."""

    def drop(self, item: int) -> None:
        """Forgets an item; the last one takes its number."""

    def fork(self, item: int) -> None:
        """Copies an item, with all it has decoded, to a new last one."""


def shared_prefixes(prompts: Sequence[Tokens]) -> list[tuple[Tokens, int]]:
    """Which leading tokens are worth computing once: (a sequence that starts with them, their number).

    Chosen on the trie of all prompts so that the tokens saved are the most; the chosen ones never contain each other.
    A prompt is always left at least one token of its own.
    """
    distinct = {prompt.tobytes(): prompt for prompt in prompts}
    counts: dict[int, int] = {}
    unique = list(distinct.values())
    numbers = {key: number for number, key in enumerate(distinct)}
    for prompt in prompts:
        number = numbers[prompt.tobytes()]
        counts[number] = counts.get(number, 0) + 1
    roots = build(unique)
    order: list[Node] = []
    stack = list(roots)
    while stack:
        node = stack.pop()
        order.append(node)
        stack.extend(node.children)
    below: dict[int, int] = {}
    best: dict[int, tuple[int, list[tuple[Tokens, int]]]] = {}
    for node in reversed(order):
        here = counts.get(node.ends, 0) if node.ends is not None else 0
        below[id(node)] = here + sum(below[id(child)] for child in node.children)
        gain = sum(best[id(child)][0] for child in node.children)
        chosen = [pick for child in node.children for pick in best[id(child)][1]]
        usable = node.end - (1 if node.ends is not None else 0)
        if usable >= COPY_TOKENS and below[id(node)] >= SHARERS and usable * (below[id(node)] - 1) > gain:
            gain, chosen = usable * (below[id(node)] - 1), [(node.tokens, usable)]
        best[id(node)] = (gain, chosen)
    return [pick for root in roots for pick in best[id(root)][1]]


@dataclass(slots=True)
class _Row:
    """One context: the prefix it refers to (None: it holds everything itself) and the tokens in its own row.

    The first ``common`` of them lie in the row of the item's first context.
    """

    prefix: Prefix | None
    length: int
    common: int = 0


class PackedSession:
    """All rows in one forward pass over packed tokens, prompts as trees, long shared prefixes by reference.

    No row will hold more than ``capacity`` tokens. With ``fixed`` the cache is its cache, every prefix is copied into
    them, and it takes the decoding steps.
    """

    def __init__(
        self,
        runner: ModelRunner,
        items: int,
        width: int,
        prompts: Sequence[Tokens],
        prefill: int,
        capacity: int,
        fixed: FixedShapeSteps | None = None,
    ) -> None:
        self._runner = runner
        self._width = width
        self._prefill = prefill
        self._fixed = fixed
        padded = runner.kernel is None
        self.cache = KVCache(runner, items * width, capacity, padded) if fixed is None else fixed.cache
        self._live: list[_Row] = []
        self._prefixes: dict[tuple[int, bytes], Prefix] = {}
        for tokens, length in shared_prefixes(prompts):
            head = tokens[:length]
            self._prefixes[length, head.tobytes()] = compute_prefix(runner, head, prefill)
        self._lengths = sorted({length for length, _ in self._prefixes}, reverse=True)

    def _prefix_of(self, prompts: Prompts) -> Prefix | None:
        """The longest computed prefix that all contexts of an item start with and do not end in."""
        for length in self._lengths:
            if all(len(prompt) > length for prompt in prompts):
                heads = {prompt[:length].tobytes() for prompt in prompts}
                if len(heads) == 1 and (found := self._prefixes.get((length, heads.pop()))) is not None:
                    return found
        return None

    def admit(self, items: Sequence[Prompts]) -> Tensor:
        """See :class:`Session`."""
        hidden: list[Tensor] = []
        batch: list[tuple[Tree, list[int]]] = []
        tokens = 0
        for item in items:
            entry = self._place(item)
            if batch and tokens + len(entry[0].tokens) > self._prefill:
                hidden.append(self._forward(batch))
                batch, tokens = [], 0
            batch.append(entry)
            tokens += len(entry[0].tokens)
        hidden.append(self._forward(batch))
        return torch.cat(hidden)

    def _place(self, item: Prompts) -> tuple[Tree, list[int]]:
        """Gives the item its rows; its tree with the copies to make, and the index of each context's last token."""
        prefix = self._prefix_of(item)
        start = 0 if prefix is None else prefix.length
        by_reference = prefix is not None and start >= REFERENCE_TOKENS and self._fixed is None
        rests = [prompt[start:] for prompt in item]
        distinct = {rest.tobytes(): rest for rest in rests}
        roots = build(list(distinct.values()))
        trees = [tree_of(root, 0, prefix) for root in roots]
        tree, places = _join(trees)
        tree.start = start
        last: dict[bytes, int] = {}
        keys = list(distinct)
        chains: dict[bytes, list[tuple[int, int, int]]] = {}
        stack: list[tuple[Node, list[tuple[int, int, int]]]] = [(root, []) for root in roots]
        while stack:
            node, above = stack.pop()
            place = places[id(node)]
            chain = [*above, (place, place + node.end - node.start, node.start)]
            if node.ends is not None:
                chains[keys[node.ends]] = chain
                last[keys[node.ends]] = chain[-1][1] - 1
            stack.extend((child, chain) for child in node.children)
        offset = 0 if by_reference else start
        first_chain = chains[rests[0].tobytes()]
        for number, rest in enumerate(rests):
            row = len(self._live)
            chain = chains[rest.tobytes()]
            # The compiled kernel reads what two contexts of an item have in common in one place.
            joint = 0
            if number and self._runner.kernel is not None and self._fixed is None:
                joint = sum(1 for own, theirs in zip(chain, first_chain, strict=False) if own == theirs)
            if prefix is not None and not by_reference and not joint:
                for layer in range(self._runner.layers):
                    self.cache.write(layer, row, 0, prefix.keys(layer), prefix.values(layer))
            for begin, end, position in chain[joint:]:
                tree.copies.append(Copy(row, begin, end, offset + position))
            common = offset + sum(end - begin for begin, end, _ in chain[:joint]) if joint else 0
            self._live.append(_Row(prefix if by_reference else None, offset + len(rest), common))
        return tree, [last[rest.tobytes()] for rest in rests]

    def _forward(self, batch: list[tuple[Tree, list[int]]]) -> Tensor:
        runner = self._runner
        metadata = build_tree_metadata(runner, [tree for tree, _ in batch], self.cache)
        hidden = runner.hidden(metadata.tokens, metadata.positions, metadata)
        wanted = [int(metadata.offsets[i]) + index for i, (_, lasts) in enumerate(batch) for index in lasts]
        return hidden[torch.tensor(wanted, device=runner.device)]

    def step(self, tokens: Sequence[int]) -> Tensor:
        """See :class:`Session`."""
        lengths = [row.length for row in self._live]
        hidden = self._packed_step(tokens, lengths) if self._fixed is None else self._fixed.step(tokens, lengths)
        for row in self._live:
            row.length += 1
        return hidden

    def _packed_step(self, tokens: Sequence[int], lengths: Sequence[int]) -> Tensor:
        runner = self._runner
        if runner.layer_step is not None and not any(row.prefix for row in self._live):
            common = torch.tensor([row.common for row in self._live])
            return runner.layer_step(torch.tensor(tokens), torch.tensor(lengths), self.cache, common, self._width)
        metadata = self.step_metadata(lengths)
        return runner.hidden(torch.tensor(tokens, device=runner.device), metadata.positions, metadata)

    def step_metadata(self, lengths: Sequence[int]) -> StepMetadata:
        """The attention of a step in which every row holds that many tokens."""
        runner = self._runner
        members: dict[int, tuple[Prefix, list[int]]] = {}
        for number, row in enumerate(self._live):
            if row.prefix is not None:
                members.setdefault(id(row.prefix), (row.prefix, []))[1].append(number)
        return StepMetadata(
            self.cache,
            torch.tensor(lengths, device=runner.device),
            torch.tensor([row.prefix.length if row.prefix else 0 for row in self._live], device=runner.device),
            [(prefix, torch.tensor(rows, device=runner.device)) for prefix, rows in members.values()],
            torch.tensor([row.common for row in self._live], device=runner.device),
            self._width,
            runner.kernel,
        )

    def drop(self, item: int) -> None:
        """See :class:`Session`."""
        last = len(self._live) // self._width - 1
        for context in range(self._width):
            target, source = item * self._width + context, last * self._width + context
            if item != last:
                self.cache.move(source, target, self._live[source].common, self._live[source].length)
                self._live[target] = self._live[source]
        del self._live[-self._width :]

    def fork(self, item: int) -> None:
        """See :class:`Session`."""
        for context in range(self._width):
            source = item * self._width + context
            row = self._live[source]
            self.cache.move(source, len(self._live), row.common, row.length)
            self._live.append(copy.copy(row))


def _join(trees: list[tuple[Tree, dict[int, int]]]) -> tuple[Tree, dict[int, int]]:
    """Trees that start at the same position as one (contexts of an item that share nothing)."""
    if len(trees) == 1:
        return trees[0]
    runs: list[tuple[int, int, int]] = []
    places: dict[int, int] = {}
    used = 0
    for tree, own in trees:
        runs += [(a + used, b + used, parent + used if parent >= 0 else -1) for a, b, parent in tree.runs]
        places |= {node: place + used for node, place in own.items()}
        used += len(tree.tokens)
    tokens = np.concatenate([tree.tokens for tree, _ in trees])
    depth = np.concatenate([tree.depth for tree, _ in trees])
    return Tree(tokens, depth, runs, trees[0][0].start, trees[0][0].prefix), places


def compute_prefix(
    runner: ModelRunner, tokens: Tokens, chunk: int, before: Prefix | None = None, visit: Any = None
) -> Prefix:
    """Keys and values of ``tokens`` (after those of ``before``), computed in equal pieces of at most ``chunk`` tokens.

    ``visit(first, hidden)`` sees the hidden states of each piece, ``first`` the number of its first token.
    """
    start = 0 if before is None else before.length
    prefix = Prefix(runner, start + len(tokens))
    if before is not None:
        for layer in range(runner.layers):
            prefix.write(layer, 0, before.keys(layer), before.values(layer))
        prefix.length = start
    pieces = -(-len(tokens) // chunk)
    bounds = [len(tokens) * piece // pieces for piece in range(pieces + 1)]
    for first, end in itertools.pairwise(bounds):
        at = start + first
        tree = Tree(tokens[first:end], np.arange(end - first), [(0, end - first, -1)], at, prefix if at else None)
        tree.copies.append(Copy(prefix, 0, end - first, at))
        metadata = build_tree_metadata(runner, [tree], None)
        hidden = runner.hidden(metadata.tokens, metadata.positions, metadata)
        prefix.length = start + end
        if visit is not None:
            visit(first, hidden)
    return prefix


class PlainSession:
    """One sequence at a time with transformers' own cache: what the packed session must equal.

    A model that transformers cannot continue from such a cache is computed from its first token at every step.
    """

    def __init__(self, runner: ModelRunner, width: int) -> None:
        self._runner = runner
        self._width = width
        self._rows: list[_PlainRow] = []

    def admit(self, items: Sequence[Prompts]) -> Tensor:
        """See :class:`Session`."""
        rows = [_PlainRow(self._runner) for item in items for _ in item]
        self._rows += rows
        return torch.stack([row.add(prompt) for row, prompt in zip(rows, itertools.chain(*items), strict=True)])

    def step(self, tokens: Sequence[int]) -> Tensor:
        """See :class:`Session`."""
        return torch.stack([row.add([token]) for token, row in zip(tokens, self._rows, strict=True)])

    def drop(self, item: int) -> None:
        """See :class:`Session`."""
        last = len(self._rows) // self._width - 1
        for context in range(self._width):
            self._rows[item * self._width + context] = self._rows[last * self._width + context]
        del self._rows[-self._width :]

    def fork(self, item: int) -> None:
        """See :class:`Session`."""
        first = item * self._width
        self._rows += [row.copy() for row in self._rows[first : first + self._width]]


class _PlainRow:
    """One sequence: its cache, or all its tokens so far."""

    def __init__(self, runner: ModelRunner) -> None:
        from transformers import DynamicCache

        self._runner = runner
        self._cache = DynamicCache(config=copy.copy(runner.config)) if runner.cached else None
        self._tokens = torch.empty(0, dtype=torch.int64, device=runner.device)

    def copy(self) -> _PlainRow:
        """The same sequence with a cache of its own."""
        other = copy.copy(self)
        other._cache = copy.deepcopy(self._cache)
        return other

    def add(self, tokens: Sequence[int] | Tokens) -> Tensor:
        """The hidden state [width] of the last of ``tokens``, put behind those before."""
        new = torch.as_tensor(tokens, dtype=torch.int64, device=self._runner.device)
        if self._cache is None:
            new = self._tokens = torch.cat([self._tokens, new])
        return self._runner.hidden_plain(new, self._cache)[-1]


Close = Callable[[Tensor, Tensor], bool]
"""Whether two tensors [N, width] are the same up to rounding."""


def plain_continues(runner: ModelRunner, parts: Sequence[Tokens], wanted: Sequence[Tensor], close: Close) -> bool:
    """Whether sequences continued in turn, token by token, from caches have the hidden states ``wanted`` [T, width]."""
    try:
        return _continues(PlainSession(runner, 1), parts, wanted, close)
    except Exception:  # a cache that a model's code does not know fails in as many ways as there are models
        return False


def packed_continues(runner: ModelRunner, parts: Sequence[Tokens], wanted: Sequence[Tensor], close: Close) -> bool:
    """The same for packed tokens, prompts and rows of keys and values."""
    try:
        capacity = max(map(len, parts)) + 1
        return _continues(PackedSession(runner, len(parts), 1, parts, 2048, capacity), parts, wanted, close)
    except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return False


def _continues(session: Session, parts: Sequence[Tokens], wanted: Sequence[Tensor], close: Close) -> bool:
    steps = min(map(len, parts)) // 2
    found = [session.admit([[part[:-steps]] for part in parts])]
    found += [session.step([int(part[at]) for part in parts]) for at in range(-steps, 0)]
    rows = torch.stack(found, dim=1)
    return all(close(row, states[-steps - 1 :]) for row, states in zip(rows, wanted, strict=True))
