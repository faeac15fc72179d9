"""Teacher-forced scores: every shared run of tokens computed once, the vocabulary head only where a target follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dasd_bench.engine.attention_metadata import Tree, tree_of
from dasd_bench.engine.errors import EngineError
from dasd_bench.engine.kv_cache import Prefix
from dasd_bench.engine.memory import is_out_of_memory, release_memory
from dasd_bench.engine.model_runner import ModelRunner
from dasd_bench.engine.requests import ScoreRequest
from dasd_bench.engine.session import compute_prefix
from dasd_bench.engine.tree_metadata import build_tree_metadata
from dasd_bench.engine.trie import Node, build

HEAD_ROWS = 256
"""KVCache of logits [rows, V] held at a time."""

MATERIALISE = 64
"""A run shorter than this is computed again below it rather than kept."""


class Collector(Protocol):
    """Takes what was computed: rows of logits with the target token of each."""

    def take(self, logits: Tensor, tokens: Tensor, places: Sequence[tuple[int, int]]) -> None:
        """``logits`` float32 [N, V], ``tokens`` int64 [N]; ``places[n]`` = (request, index of the target token)."""


@dataclass(slots=True)
class _Wanted:
    """Target tokens predicted from one position of a sequence: (request, index in the target, token)."""

    items: list[tuple[int, int, int]] = field(default_factory=list)


class Scorer:
    """Runs score requests through the model and hands logits to a collector."""

    def __init__(self, runner: ModelRunner, prefill_tokens: int, memory_bytes: int, collector: Collector) -> None:
        self._runner = runner
        self._chunk = prefill_tokens
        self._memory = memory_bytes
        self._collector = collector
        self._requests: Sequence[ScoreRequest] = ()
        self._wanted: dict[int, dict[int, _Wanted]] = {}
        self._ready: list[tuple[Tree, dict[int, int], Node]] = []
        self._waiting = 0

    def run(self, requests: Sequence[ScoreRequest]) -> None:
        """Computes every target token of every request once."""
        self._requests = requests
        # The last target token predicts nothing that is asked for.
        paths = [np.array([*r.prompt_ids, *r.target_ids][:-1], dtype=np.int64) for r in requests]
        if not self._runner.packed:
            for number, path in enumerate(paths):
                hidden = self._runner.hidden_plain(torch.from_numpy(path).to(self._runner.device), None)
                first = len(requests[number].prompt_ids) - 1
                items = [(first + j, (number, j, int(t))) for j, t in enumerate(requests[number].target_ids)]
                self._head(hidden, items)
            return
        distinct = {path.tobytes(): path for path in paths}
        roots = build(list(distinct.values()))
        self._want(roots, list(distinct), [path.tobytes() for path in paths])
        for root in roots:
            self._visit(root, 0, None)
        self._flush()

    def _want(self, roots: list[Node], keys: list[bytes], paths: list[bytes]) -> None:
        """Notes at each node which of its positions predict which target tokens."""
        ends: dict[bytes, Node] = {}
        stack = list(roots)
        while stack:
            node = stack.pop()
            if node.ends is not None:
                ends[keys[node.ends]] = node
            stack.extend(node.children)
        self._wanted = {}
        for number, path in enumerate(paths):
            request = self._requests[number]
            at: Node | None = ends[path]
            first = len(request.prompt_ids) - 1
            position = first + len(request.target_ids) - 1
            while at is not None and position >= first:
                here = self._wanted.setdefault(id(at), {})
                while position >= max(first, at.start):
                    token = int(request.target_ids[position - first])
                    here.setdefault(position, _Wanted()).items.append((number, position - first, token))
                    position -= 1
                at = at.parent

    def _visit(self, node: Node, start: int, prefix: Prefix | None) -> None:
        """Queues the tokens from position ``start`` down through ``node`` and everything below it."""
        if node.start - start + node.size <= 2 * self._chunk:
            tree, places = tree_of(node, start, prefix)
            held = {id(t.prefix): t.prefix.bytes for t, _, _ in self._ready if t.prefix is not None}
            too_many = sum(held.values()) + (prefix.bytes if prefix else 0) > self._memory
            if self._ready and (too_many or self._waiting + len(tree.tokens) > self._chunk):
                self._flush()
            self._ready.append((tree, places, node))
            self._waiting += len(tree.tokens)
        elif node.end - start >= MATERIALISE or not node.children:
            # Only this node's own positions are answered here; those before it were answered above.
            below = self._wanted.get(id(node), {})

            def answer(first: int, hidden: Tensor) -> None:
                at = start + first
                places = [p for p in below if at <= p < at + len(hidden)]
                self._head(hidden, [(p - at, item) for p in places for item in below[p].items])

            deeper = compute_prefix(self._runner, node.tokens[start : node.end], self._chunk, prefix, answer)
            for child in node.children:
                self._visit(child, node.end, deeper)
        else:
            below = self._wanted.pop(id(node), {})
            for number, child in enumerate(node.children):
                if number == 0 and below:
                    # The first child recomputes this short run and answers for it.
                    self._wanted.setdefault(id(child), {}).update(below)
                self._visit(child, start, prefix)

    def _flush(self) -> None:
        ready, self._ready, self._waiting = self._ready, [], 0
        if ready:
            self._forward(ready)

    def _forward(self, ready: list[tuple[Tree, dict[int, int], Node]]) -> None:
        runner = self._runner
        try:
            metadata = build_tree_metadata(runner, [tree for tree, _, _ in ready], None)
            hidden = runner.hidden(metadata.tokens, metadata.positions, metadata)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(ready) == 1:
                number = next(iter(self._wanted[id(ready[0][2])].values())).items[0][0]
                name = self._requests[number].name
                raise EngineError(f"There is not enough memory to score {name}; lower prefill_tokens.") from error
            release_memory(runner.device)
            self._forward(ready[: len(ready) // 2])
            self._forward(ready[len(ready) // 2 :])
            return
        items = []
        for number, (_, places, top) in enumerate(ready):
            offset = int(metadata.offsets[number])
            stack = [top]
            while stack:
                node = stack.pop()
                place = offset + places[id(node)] - node.start
                for position, wanted in self._wanted.get(id(node), {}).items():
                    items += [(place + position, item) for item in wanted.items]
                stack.extend(node.children)
        self._head(hidden, items)

    def _head(self, hidden: Tensor, items: list[tuple[int, tuple[int, int, int]]]) -> None:
        """Logits of the rows that are asked for, each once, in chunks."""
        items.sort(key=lambda item: item[0])
        rows = sorted({row for row, _ in items})
        at = 0
        for start in range(0, len(rows), HEAD_ROWS):
            chunk = rows[start : start + HEAD_ROWS]
            numbers = {row: number for number, row in enumerate(chunk)}
            here = []
            while at < len(items) and items[at][0] in numbers:
                here.append(items[at])
                at += 1
            logits = self._runner.logits(hidden[torch.tensor(chunk, device=hidden.device)])
            if len(here) != len(chunk):
                logits = logits[torch.tensor([numbers[row] for row, _ in here], device=hidden.device)]
            tokens = torch.tensor([token for _, (_, _, token) in here], device=hidden.device)
            self._collector.take(logits, tokens, [(request, index) for _, (request, index, _) in here])
