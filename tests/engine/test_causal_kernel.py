"""Causal attention of packed rows and its gradient against float64; no number depends on threads or on other rows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dasd_bench.engine.kernels.causal import CausalKernel, load_causal_kernel

SCALING = 0.2


def kernel_for(dim: int) -> CausalKernel:
    found = load_causal_kernel(torch.device("cpu"), dim)
    if found is None:
        pytest.skip("no C++ compiler here")
    return found


def exact(tensors: Sequence[Tensor], lengths: Sequence[int], window: int) -> Tensor:
    """torch's attention row by row in float64, [L, H, D]."""
    pieces = []
    for query, key, value in zip(*(torch.split(part.double(), list(lengths)) for part in tensors), strict=True):
        count = len(query)
        seen = torch.ones(count, count, dtype=torch.bool).tril()
        seen = seen.triu(1 - window) if window else seen
        heads = (part.transpose(0, 1)[None] for part in (query, key, value))
        pieces.append(F.scaled_dot_product_attention(*heads, attn_mask=seen, scale=SCALING, enable_gqa=True)[0])
    return torch.cat(pieces, dim=1).transpose(0, 1)


def tokens(lengths: Sequence[int], heads: int, groups: int, dim: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths))
    return [torch.randn(sum(lengths), count, dim, generator=generator) * 2 for count in (heads, groups, groups, heads)]


@pytest.mark.parametrize("lengths", [(1,), (35, 36, 37), (90, 1, 150, 17), (400,)])
@pytest.mark.parametrize(("heads", "groups", "dim"), [(9, 3, 64), (4, 4, 16), (5, 1, 80), (2, 1, 256)])
@pytest.mark.parametrize("window", [0, 1, 20, 1000])
def test_equals_attention_in_float64(lengths, heads, groups, dim, window):
    kernel = kernel_for(dim)
    query, key, value, grad = tokens(lengths, heads, groups, dim)
    leaves = [part.double().requires_grad_() for part in (query, key, value)]
    wanted = exact(leaves, lengths, window)
    wanted.backward(grad.double())
    out, lse = kernel.forward(query, key, value, lengths, SCALING, window)
    found = kernel.backward(query, key, value, out, lse, grad, lengths, SCALING, window)
    for one, other in zip((out, *found), (wanted.detach(), *(leaf.grad for leaf in leaves)), strict=True):
        assert other is not None
        # A gradient that is zero comes out of differences of numbers as large as ``size``.
        size = float(other.norm()) + float(grad.norm()) * float(value.norm()) / len(value) ** 0.5
        assert float((one - other).norm()) <= 1e-6 * size


def test_threads_and_other_rows_change_nothing():
    kernel, lengths = kernel_for(64), (130, 40, 77)
    query, key, value, grad = tokens(lengths, 6, 2, 64)
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            out, lse = kernel.forward(query, key, value, lengths, SCALING, 0)
            found.append((out, *kernel.backward(query, key, value, out, lse, grad, lengths, SCALING, 0)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for other in found[1:] for one, two in zip(found[0], other, strict=True))
    alone, _ = kernel.forward(*(part[130:170].contiguous() for part in (query, key, value)), (40,), SCALING, 0)
    assert torch.equal(alone, found[0][0][130:170])


def test_heads_of_another_width_are_left_to_torch():
    assert load_causal_kernel(torch.device("cpu"), 20) is None
    assert load_causal_kernel(torch.device("meta"), 64) is None
