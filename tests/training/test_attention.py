"""Attention of a pack by the compiled kernel against torch's row by row, through transformers' interface."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dasd_bench.engine.kernels.causal import load_causal_kernel
from dasd_bench.training import attention
from dasd_bench.training.attention import has_varlen, row_attention, varlen_attention

LENGTHS = (23, 1, 40)


def heads(count: int, dtype: torch.dtype) -> Tensor:
    """[1, count, L, 16] as a model lays it: tokens outside, heads inside."""
    made = torch.randn(1, sum(LENGTHS), count, 16, generator=torch.Generator().manual_seed(count))
    return made.to(dtype).transpose(1, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [None, 9])
def test_kernel_and_torch_agree(dtype, window, monkeypatch):
    if load_causal_kernel(torch.device("cpu"), 16) is None:
        pytest.skip("no C++ compiler here")
    found = []
    for way in (load_causal_kernel, lambda device, dim: None):
        monkeypatch.setattr(attention, "load_causal_kernel", way)
        leaves = [heads(count, dtype).requires_grad_() for count in (6, 2, 2)]
        out, _ = row_attention(nn.Identity(), *leaves, None, scaling=0.3, sliding_window=window, row_lengths=LENGTHS)
        out.backward(torch.ones_like(out) * torch.arange(16) / 16)
        found.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for one, other in zip(*found, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        torch.testing.assert_close(
            one, other, rtol=2e-2 if dtype == torch.bfloat16 else 1e-4, atol=2e-2 if dtype == torch.bfloat16 else 1e-5
        )


def test_the_call_for_a_gpu_has_the_shapes():
    """Without a GPU: torch says what would come out."""
    if not has_varlen():
        pytest.skip("this torch has no attention over rows of unlike length")
    query, key = (torch.empty(1, count, 64, 64, device="meta", dtype=torch.bfloat16) for count in (9, 3))
    for window in (None, 7):
        assert varlen_attention(query, key, key, list(LENGTHS), None, window).shape == (1, 64, 9, 64)
