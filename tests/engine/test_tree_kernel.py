"""The compiled attention of token trees against a softmax written out token by token."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.engine.attention import Scale
from dasd_bench.engine.attention_metadata import Tree, tree_of
from dasd_bench.engine.kernels.tree import load_tree_kernel
from dasd_bench.engine.kv_cache import Prefix
from dasd_bench.engine.session import _join
from dasd_bench.engine.tree_metadata import KernelTreeMetadata
from dasd_bench.engine.trie import build

CPU = torch.device("cpu")


def kernel_for(dtype, dim):
    found = load_tree_kernel(CPU, dtype, dim)
    if found is None:
        pytest.skip("no C++ compiler here")
    return found


def prefix_of(groups, length, dim, dtype):
    runner = SimpleNamespace(key_heads=groups, head_dim=dim, dtype=dtype, device=CPU, layers=1, token_bytes=1)
    prefix = Prefix(runner, length + 3)  # with room that is not in use
    prefix.write(0, 0, torch.randn(groups, length, dim).to(dtype), torch.randn(groups, length, dim).to(dtype))
    prefix.length = length
    return prefix


def tree_from(paths, start=0, prefix=None):
    distinct = {tuple(path): np.array(path, dtype=np.int64) for path in paths}
    tree, _ = _join([tree_of(root, 0, prefix) for root in build(list(distinct.values()))])
    tree.start = start
    return tree


def written_out(trees, query, key, value, how):
    """Output [N, H, D] in float64: each token over its ancestors, found by walking the runs."""
    heads, count, dim = query.shape
    repeat = heads // key.shape[0]
    out = torch.zeros(count, heads, dim, dtype=torch.float64)
    offset = 0
    for tree in trees:
        parents = {}
        for start, end, parent in tree.runs:
            parents |= {token: token - 1 if token > start else parent for token in range(start, end)}
        for token in range(len(tree.tokens)):
            line = [token]
            while parents[line[-1]] >= 0:
                line.append(parents[line[-1]])
            keys, values = (x[:, [offset + t for t in reversed(line)]].double() for x in (key, value))
            if tree.prefix is not None:
                keys = torch.cat([tree.prefix.keys(0).double(), keys], dim=1)
                values = torch.cat([tree.prefix.values(0).double(), values], dim=1)
            first = max(0, keys.shape[1] - how.window) if how.window else 0
            keys, values = (x[:, first:].repeat_interleave(repeat, 0) for x in (keys, values))
            scores = (keys @ query[:, offset + token].double().unsqueeze(-1)).squeeze(-1) * how.scaling
            if how.softcap:
                scores = torch.tanh(scores / how.softcap) * how.softcap
            out[offset + token] = (scores.softmax(-1).unsqueeze(1) @ values).squeeze(1)
        offset += len(tree.tokens)
    return out


def check(trees: list[Tree], dtype, groups, repeat, dim, how):
    count = sum(len(tree.tokens) for tree in trees)
    # As a model hands them on: heads are seen through a transposed view.
    query = torch.randn(count, groups * repeat, dim).to(dtype).transpose(0, 1)
    key, value = (torch.randn(count, groups, dim).to(dtype).transpose(0, 1) for _ in range(2))
    metadata = KernelTreeMetadata(trees, None, CPU, kernel_for(dtype, dim))
    found = metadata.attend(0, query, key, value, how)
    wanted = written_out(trees, query, key, value, how)
    np.testing.assert_allclose(found.double(), wanted, atol=1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("groups", "repeat", "dim"), [(3, 3, 64), (2, 1, 16), (1, 7, 128), (2, 4, 48)])
@pytest.mark.parametrize(("softcap", "window"), [(None, None), (3.0, None), (None, 10), (None, 40)])
def test_trees_with_branches_and_a_prefix(dtype, groups, repeat, dim, softcap, window):
    torch.manual_seed(0)
    prefix = prefix_of(groups, 37, dim, dtype)
    body = list(range(100, 150))
    trees = [
        tree_from([[1, 2, 3]]),
        tree_from([[*body, 1, 2], [*body, 1, 3, *range(40)], [*body, 4]], 37, prefix),
        tree_from([list(range(70)), list(range(1, 30))]),  # two roots
        tree_from([[5], [5, *body]], 37, prefix),
    ]
    check(trees, dtype, groups, repeat, dim, Scale(0.3, softcap, window))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=40), min_size=1, max_size=8),
    st.integers(0, 20),
    st.one_of(st.none(), st.integers(1, 30)),
)
def test_any_tree(paths, before, window):
    torch.manual_seed(len(paths))
    prefix = prefix_of(2, before, 16, torch.float32) if before else None
    check([tree_from(paths, before, prefix)], torch.float32, 2, 2, 16, Scale(0.5, None, window))
