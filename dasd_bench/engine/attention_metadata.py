"""Attention metadata of a pass over token trees (prompts, targets that share a context) or of a decoding step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dasd_bench.engine.attention import Scale, attend, causal_mask, merge
from dasd_bench.engine.kernels.decode import DecodeKernel
from dasd_bench.engine.kv_cache import KVCache, Prefix
from dasd_bench.engine.trie import Node, Tokens

SMALL = 384
"""Trees up to this many tokens are batched, padded to the longest; longer ones are computed one by one."""

PADDING = 1.25
"""A batch of small trees holds at most this factor between its longest and its shortest."""


@dataclass(slots=True)
class Copy:
    """Where the keys and values of a tree's tokens ``start`` to ``end`` go: a row or a prefix, from ``offset`` on."""

    target: int | Prefix
    start: int
    end: int
    offset: int


@dataclass(slots=True)
class Tree:
    """Tokens of one forward that see each other along the branches, and all of ``prefix``.

    ``tokens`` int64 [n] in depth-first order; ``depth`` int64 [n], each token's position counted from ``start``;
    ``runs`` are (start, end, parent token or -1) in the same order; ``root`` is the length of the first run.
    """

    tokens: Tokens
    depth: Tokens
    runs: list[tuple[int, int, int]]
    start: int = 0
    prefix: Prefix | None = None
    copies: list[Copy] = field(default_factory=list)

    @property
    def root(self) -> int:
        """Tokens of the first run."""
        return self.runs[0][1]

    @property
    def chain(self) -> bool:
        """True where there is no branch."""
        return len(self.runs) == 1

    def visible(self, low: int, high: int) -> np.ndarray:
        """Bool [n, n] for tokens ``low`` to ``high``: i sees j, which is itself or one of its ancestors among them."""
        mask = np.zeros((high - low, high - low), dtype=bool)
        for start, end, parent in self.runs:
            if low <= start < high:
                if parent >= low:
                    mask[start - low : end - low] = mask[parent - low]
                mask[start - low : end - low, start - low : end - low] = np.tri(end - start, dtype=bool)
        return mask

    def blocks(self) -> list[tuple[int, int, bool, Tokens]]:
        """The tree cut into blocks that are computed together: (start, end, is one run, tokens seen before it).

        A run with much below it is a block; neighbouring small subtrees under one parent are one.
        """
        children: dict[int, list[int]] = {}
        last: dict[int, int] = {}
        for number, (_, end, parent) in enumerate(self.runs):
            children.setdefault(parent, []).append(number)
            last[end - 1] = number
        ends = [end for _, end, _ in self.runs]
        for number in range(len(self.runs) - 1, -1, -1):
            parent = self.runs[number][2]
            if parent >= 0:
                ends[last[parent]] = max(ends[last[parent]], ends[number])
        blocks: list[tuple[int, int, bool, Tokens]] = []
        stack: list[tuple[list[int], Tokens]] = [(children[-1], np.empty(0, dtype=np.int64))]
        while stack:
            siblings, before = stack.pop()
            opened: int | None = None
            for place, number in enumerate(siblings):
                start, end, _ = self.runs[number]
                if ends[number] - start > SMALL:
                    blocks.append((start, end, True, before))
                    stack.append((children.get(end - 1, []), np.concatenate([before, np.arange(start, end)])))
                    continue
                opened = start if opened is None else opened
                following = siblings[place + 1] if place + 1 < len(siblings) else None
                if following is None or ends[following] - opened > SMALL:
                    alone = ends[number] == end and opened == start
                    blocks.append((opened, ends[number], alone, before))
                    opened = None
        return blocks


def tree_of(node: Node, start: int, prefix: Prefix | None) -> tuple[Tree, dict[int, int]]:
    """The tree of everything below ``node`` from position ``start`` on (its ancestors' tail included).

    Also gives, per node (by ``id``), the index of the token at the node's ``start``.
    """
    runs: list[tuple[int, int, int]] = []
    pieces: list[Tokens] = []
    depths: list[Tokens] = []
    places: dict[int, int] = {}
    used = 0
    stack: list[tuple[Node, int]] = [(node, -1)]
    while stack:
        current, parent = stack.pop()
        first = start if current is node else current.start
        length = current.end - first
        places[id(current)] = used + current.start - first
        runs.append((used, used + length, parent))
        pieces.append(current.tokens[first : current.end])
        depths.append(np.arange(first - start, current.end - start))
        used += length
        stack.extend((child, used - 1) for child in reversed(current.children))
    return Tree(np.concatenate(pieces), np.concatenate(depths), runs, start, prefix), places


@dataclass(slots=True)
class _Part:
    """Keys that the queries of a unit see: their own tree (``keys`` None), rows of the pass, or a prefix."""

    keys: slice | Tensor | Prefix | None
    causal: bool
    mask: Tensor | None
    key_positions: Tensor


@dataclass(slots=True)
class _Unit:
    """Queries that are computed together: ``index`` int64 [G, n] into the pass, or a slice of it."""

    index: Tensor | slice
    positions: Tensor
    parts: list[_Part]
    real: Tensor | None
    windowed: dict[tuple[int, int], tuple[Tensor, Tensor | None]] = field(default_factory=dict)


class TreeMetadata(ABC):
    """What every forward pass over many trees has: its tokens, their places, and the copies to make."""

    def __init__(self, trees: Sequence[Tree], cache: KVCache | None, device: torch.device) -> None:
        self._cache = cache
        self.offsets = np.cumsum([0, *(len(tree.tokens) for tree in trees)])
        self.tokens = torch.from_numpy(np.concatenate([tree.tokens for tree in trees])).to(device)
        positions = np.concatenate([tree.depth + tree.start for tree in trees])
        self.positions = torch.from_numpy(positions).to(device)
        self._longest = int(positions.max()) + 1
        self._copies = [
            (copy, int(offset)) for tree, offset in zip(trees, self.offsets, strict=False) for copy in tree.copies
        ]

    @abstractmethod
    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, how: Scale) -> Tensor:
        """See :class:`dasd_bench.engine.attention.AttentionMetadata`."""

    def _store(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Puts the new keys and values [Hkv, N, D] where they are to stay."""
        for copy, offset in self._copies:
            part = slice(offset + copy.start, offset + copy.end)
            if isinstance(copy.target, Prefix):
                copy.target.write(layer, copy.offset, key[:, part], value[:, part])
            else:
                assert self._cache is not None
                self._cache.write(layer, copy.target, copy.offset, key[:, part], value[:, part])


class PaddedTreeMetadata(TreeMetadata):
    """A pass by torch's own attention: units of queries that are computed together, padded and masked."""

    def __init__(self, trees: Sequence[Tree], cache: KVCache | None, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(trees, cache, device)
        self._device = device
        self._dtype = dtype
        self._units: list[_Unit] = []
        small: dict[int, list[int]] = {}
        for number, tree in enumerate(trees):
            if len(tree.tokens) <= SMALL:
                small.setdefault(id(tree.prefix), []).append(number)
            else:
                self._add_large(tree, int(self.offsets[number]))
        for members in small.values():
            members.sort(key=lambda number: -len(trees[number].tokens))
            while members:
                longest = len(trees[members[0]].tokens)
                batch = [n for n in members if len(trees[n].tokens) * PADDING >= longest]
                self._add_small([trees[n] for n in batch], [int(self.offsets[n]) for n in batch])
                members = members[len(batch) :]

    def _add_small(self, trees: list[Tree], offsets: list[int]) -> None:
        size = len(trees[0].tokens)
        lengths = np.array([len(tree.tokens) for tree in trees])
        local = np.arange(size)
        inside = local < lengths[:, None]
        # Padding repeats the first token of the tree: its output is thrown away, its keys are masked.
        index = np.array(offsets)[:, None] + np.where(inside, local, 0)
        causal = all(tree.chain for tree in trees)
        mask = None
        if not causal:
            seen = np.zeros((len(trees), 1, size, size), dtype=bool)
            for number, tree in enumerate(trees):
                seen[number, 0, : lengths[number], : lengths[number]] = tree.visible(0, lengths[number])
            seen[:, 0, local, local] = True
            mask = self._additive(torch.from_numpy(seen))
        index_tensor = torch.from_numpy(index).to(self._device)
        positions = self.positions[index_tensor]
        parts = [_Part(None, causal, mask, positions)]
        prefix = trees[0].prefix
        if prefix is not None:
            parts.append(_Part(prefix, False, None, torch.arange(prefix.length, device=self._device)))
        real = None if inside.all() else torch.from_numpy(inside).to(self._device)
        self._units.append(_Unit(index_tensor, positions, parts, real))

    def _add_large(self, tree: Tree, offset: int) -> None:
        for start, end, one_run, before in tree.blocks():
            rows = slice(offset + start, offset + end)
            mask = None if one_run else self._additive(torch.from_numpy(tree.visible(start, end)))[None, None]
            parts = [_Part(rows, one_run, mask, self.positions[rows])]
            if len(before):
                keys: slice | Tensor = slice(offset + int(before[0]), offset + int(before[-1]) + 1)
                if before[-1] - before[0] + 1 != len(before):
                    keys = torch.from_numpy(before + offset).to(self._device)
                parts.append(_Part(keys, False, None, self.positions[keys]))
            if tree.prefix is not None:
                seen = torch.arange(tree.prefix.length, device=self._device)
                parts.append(_Part(tree.prefix, False, None, seen))
            self._units.append(_Unit(rows, self.positions[rows], parts, None))

    def _additive(self, seen: Tensor) -> Tensor:
        mask = torch.zeros(seen.shape, dtype=self._dtype)
        return mask.masked_fill_(~seen, float("-inf")).to(self._device)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, how: Scale) -> Tensor:
        """See :class:`dasd_bench.engine.attention.AttentionMetadata`."""
        self._store(layer, key, value)
        heads, count, dim = query.shape
        out = query.new_empty(count, heads, dim)
        for unit in self._units:
            if isinstance(unit.index, slice):
                queries = query[:, unit.index].unsqueeze(0)
            else:
                queries = query.transpose(0, 1)[unit.index].transpose(1, 2)
            results = [self._part(unit, number, layer, queries, key, value, how) for number in range(len(unit.parts))]
            merged = merge(results).transpose(1, 2)
            if isinstance(unit.index, slice):
                out[unit.index] = merged[0]
            elif unit.real is None:
                out[unit.index.reshape(-1)] = merged.reshape(-1, heads, dim)
            else:
                out[unit.index[unit.real]] = merged[unit.real]
        return out

    def _part(
        self, unit: _Unit, number: int, layer: int, query: Tensor, key: Tensor, value: Tensor, how: Scale
    ) -> tuple[Tensor, Tensor]:
        part = unit.parts[number]
        mask, causal, blind = part.mask, part.causal, None
        if how.window is not None and self._longest > how.window:
            if (number, how.window) not in unit.windowed:
                unit.windowed[number, how.window] = self._window(unit, part, how.window)
            mask, blind = unit.windowed[number, how.window]
            causal = False
        if part.keys is None:
            assert isinstance(unit.index, Tensor)
            keys = key.transpose(0, 1)[unit.index].transpose(1, 2)
            values = value.transpose(0, 1)[unit.index].transpose(1, 2)
            return attend(query, keys, values, how, mask, causal)
        if not isinstance(part.keys, Prefix):
            seen = attend(query, key[None, :, part.keys], value[None, :, part.keys], how, mask, causal)
            return unseen(seen, blind)
        # Every query of the unit sees the same prefix: one product over all of them.
        groups, heads, length, dim = query.shape
        flat = query.transpose(0, 1).reshape(1, heads, groups * length, dim)
        keys, values = part.keys.keys(layer)[None], part.keys.values(layer)[None]
        result, lse = unseen(attend(flat, keys, values, how, mask, causal), blind)
        result = result.reshape(heads, groups, length, dim).transpose(0, 1)
        return result, lse.reshape(heads, groups, length).transpose(0, 1)

    def _window(self, unit: _Unit, part: _Part, window: int) -> tuple[Tensor, Tensor | None]:
        positions = unit.positions.reshape(1, -1) if isinstance(part.keys, Prefix) else unit.positions
        near = positions.unsqueeze(-1) - part.key_positions.unsqueeze(-2) < window
        while near.dim() < 4:
            near = near.unsqueeze(0) if near.dim() == 2 else near.unsqueeze(1)
        mask = self._additive(near.cpu())
        if part.mask is not None:
            mask = mask + part.mask
        elif part.causal:
            size = mask.shape[-1]
            mask = mask + causal_mask(size, self._device, self._dtype)
        # A query always sees itself; what lies before its block may have left its window whole.
        own = part.keys is None or part.mask is not None or part.causal
        return mask, None if own else ~near.any(dim=-1)


def unseen(part: tuple[Tensor, Tensor], blind: Tensor | None) -> tuple[Tensor, Tensor]:
    """Gives the queries that see no key of a part (``blind`` broadcasts to [B, H, Q]) the weight zero in it."""
    if blind is None:
        return part
    out, lse = part
    return out.masked_fill(blind.unsqueeze(-1), 0.0), lse.masked_fill(blind, float("-inf"))


class StepMetadata:
    """One new token for each of the first ``lengths.numel()`` rows.

    ``lengths`` [B]: tokens each row holds; ``starts`` [B]: the length of its shared prefix. ``shared`` lists
    (prefix, rows that see it int64). ``kernel`` does the rows' own part where it is there; ``common`` [B] is for it:
    how many of a row's first tokens lie in the first of the ``width`` rows of its item.
    """

    def __init__(
        self,
        cache: KVCache,
        lengths: Tensor,
        starts: Tensor,
        shared: list[tuple[Prefix, Tensor]],
        common: Tensor,
        width: int,
        kernel: DecodeKernel | None = None,
    ) -> None:
        self._cache = cache
        self._kernel = kernel
        self._common = common
        self._width = width
        self._lengths = lengths
        self._shared = shared
        self.positions = starts + lengths
        self._count = lengths.numel()
        self._longest = int(lengths.max()) + 1
        self._held = int(lengths.sum())
        self._range = torch.arange(self._count, device=lengths.device)
        self._keys_at = torch.arange(self._longest, device=lengths.device)
        self._masks: dict[tuple[torch.dtype, int | None], Tensor] = {}
        self._windows: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._farthest = int(self.positions.max()) + 1

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, how: Scale) -> Tensor:
        """See :class:`dasd_bench.engine.attention.AttentionMetadata`."""
        window = how.window if how.window is not None and self._farthest > how.window else None
        out, lse = self._own(layer, query, key, value, how, window)
        for prefix, members in self._shared:
            flat = query[:, members].unsqueeze(0)
            near, blind = self._near(prefix, members, window, query.dtype)
            whole = prefix.keys(layer)[None], prefix.values(layer)[None]
            part, part_lse = unseen(attend(flat, *whole, how, near), blind)
            theirs = (part[0].transpose(0, 1), part_lse[0].transpose(0, 1))
            out[members] = merge([(out[members], lse[members]), theirs])
        return out

    def _own(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, how: Scale, window: int | None
    ) -> tuple[Tensor, Tensor]:
        """Stores the new keys and values; attention of each row over what the row itself holds."""
        count, longest = self._count, self._longest
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        key, value, queries = key.transpose(0, 1), value.transpose(0, 1), query.transpose(0, 1)
        if self._kernel is not None:
            common, width, held = self._common, self._width, self._held
            return self._kernel(queries, key, value, keys, values, self._lengths, how, common, width, held)
        keys[self._range, :, self._lengths] = key
        values[self._range, :, self._lengths] = value
        heads, _, dim = query.shape
        groups = keys.shape[1]
        folded = queries.reshape(count, groups, heads // groups, dim)
        mask = self._mask(query.dtype, window)
        out, lse = attend(folded, keys[:count, :, :longest], values[:count, :, :longest], how, mask)
        return out.reshape(count, heads, dim), lse.reshape(count, heads)

    def _near(
        self, prefix: Prefix, members: Tensor, window: int | None, dtype: torch.dtype
    ) -> tuple[Tensor | None, Tensor | None]:
        if window is None:
            return None, None
        if (id(prefix), window) not in self._windows:
            keys_at = torch.arange(prefix.length, device=members.device)
            far = self.positions[members].unsqueeze(1) - keys_at >= window
            mask = torch.zeros(far.shape, dtype=dtype, device=far.device).masked_fill_(far, float("-inf"))
            self._windows[id(prefix), window] = mask[None, None], far.all(dim=-1)
        return self._windows[id(prefix), window]

    def _mask(self, dtype: torch.dtype, window: int | None) -> Tensor:
        if (dtype, window) not in self._masks:
            hidden = self._keys_at > self._lengths.unsqueeze(1)
            if window is not None:
                hidden |= self._lengths.unsqueeze(1) - self._keys_at >= window
            mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            self._masks[dtype, window] = mask.masked_fill_(hidden, float("-inf"))[:, None, None, :]
        return self._masks[dtype, window]
