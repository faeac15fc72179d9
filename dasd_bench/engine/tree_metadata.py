"""A forward pass over token trees by the compiled kernel, and the choice between it and torch's own attention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dasd_bench.engine.attention import Scale
from dasd_bench.engine.attention_metadata import PaddedTreeMetadata, Tree, TreeMetadata
from dasd_bench.engine.kernels.tree import CHUNK, Layout, TreeKernel
from dasd_bench.engine.kv_cache import KVCache, Prefix
from dasd_bench.engine.model_runner import ModelRunner


def build_tree_metadata(runner: ModelRunner, trees: Sequence[Tree], cache: KVCache | None) -> TreeMetadata:
    """The metadata of one pass over ``trees``; what is to stay goes to ``cache`` or to prefixes."""
    if runner.tree_kernel is None:
        return PaddedTreeMetadata(trees, cache, runner.device, runner.dtype)
    return KernelTreeMetadata(trees, cache, runner.device, runner.tree_kernel)


class KernelTreeMetadata(TreeMetadata):
    """Every token sees exactly what it may: nothing is padded and nothing masked."""

    def __init__(self, trees: Sequence[Tree], cache: KVCache | None, device: torch.device, kernel: TreeKernel) -> None:
        super().__init__(trees, cache, device)
        self._kernel = kernel
        self._prefixes: list[Prefix] = []
        self._spans: list[tuple[int, int, int, int]] = []
        self._chunks: list[tuple[int, int, int, int, int]] = []
        for tree, offset in zip(trees, self.offsets.tolist(), strict=False):
            self._add(tree, offset)
        self._layout = Layout(np.array(self._spans, dtype=np.int64), np.array(self._chunks, dtype=np.int64))

    def _add(self, tree: Tree, offset: int) -> None:
        whole: list[tuple[int, int, int, int]] = []
        if tree.prefix is not None:
            if not any(prefix is tree.prefix for prefix in self._prefixes):
                self._prefixes.append(tree.prefix)
            number = next(n for n, prefix in enumerate(self._prefixes) if prefix is tree.prefix)
            whole = [(number + 1, 0, tree.prefix.length, 0)]
        seen: dict[int, list[tuple[int, int, int, int]]] = {-1: whole}  # by the token that a run hangs on
        for start, end, parent in tree.runs:
            position = tree.start + int(tree.depth[start])
            spans = [*seen[parent], (0, offset + start, offset + end, position)]
            seen[end - 1] = spans
            first = len(self._spans)
            self._spans += spans
            for token in range(start, end, CHUNK):
                count = min(CHUNK, end - token)
                self._chunks.append((offset + token, count, position + token - start, first, len(self._spans)))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, how: Scale) -> Tensor:
        """See :class:`dasd_bench.engine.attention.AttentionMetadata`."""
        self._store(layer, key, value)
        sources = [(key, value), *((prefix.keys(layer), prefix.values(layer)) for prefix in self._prefixes)]
        window = how.window if how.window is not None and self._longest > how.window else None
        return self._kernel(query, sources, self._layout, Scale(how.scaling, how.softcap, window))
