"""A forward pass over token trees by the compiled kernel, and the choice between it and torch's own attention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dasd_bench.engine.attention import Scale
from dasd_bench.engine.kernels.tree import CHUNK, Layout, TreeKernel
from dasd_bench.engine.network import Network
from dasd_bench.engine.plans import Tree, TreePass, TreePlan
from dasd_bench.engine.store import Prefix, Rows


def plan_trees(network: Network, trees: Sequence[Tree], rows: Rows | None) -> TreePass:
    """The plan of one pass over ``trees``; what is to stay goes to ``rows`` or to prefixes."""
    if network.tree_kernel is None:
        return TreePlan(trees, rows, network.device, network.dtype)
    return KernelPlan(trees, rows, network.device, network.tree_kernel)


class KernelPlan(TreePass):
    """Every token sees exactly what it may: nothing is padded and nothing masked."""

    def __init__(self, trees: Sequence[Tree], rows: Rows | None, device: torch.device, kernel: TreeKernel) -> None:
        super().__init__(trees, rows, device)
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
        """See :class:`dasd_bench.engine.attention.Plan`."""
        self._store(layer, key, value)
        sources = [(key, value), *((prefix.keys(layer), prefix.values(layer)) for prefix in self._prefixes)]
        window = how.window if how.window is not None and self._longest > how.window else None
        return self._kernel(query, sources, self._layout, Scale(how.scaling, how.softcap, window))
