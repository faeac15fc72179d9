"""Norms and gated blocks with their gradients in one pass, against autograd through the modules themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from dasd_bench.engine.kernels.rows import RowKernels, load_row_kernels
from dasd_bench.training.fused import fused_forward

DTYPES = [torch.float32, torch.bfloat16]
CLOSE = {torch.float32: 2e-6, torch.bfloat16: 1.5e-2}
"""The norm of a difference over that of what is wanted: gradients of bfloat16 modules are rounded at other places."""


@pytest.fixture
def kernels() -> RowKernels:
    found = load_row_kernels(torch.device("cpu"), torch.float32)
    if found is None:
        pytest.skip("no C++ compiler here")
    return found


def results(forward, hidden: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """What comes out, and the gradient to what went in."""
    leaf = hidden.clone().requires_grad_()
    out = forward(leaf)
    out.backward(grad)
    assert leaf.grad is not None
    return out.detach(), leaf.grad


def check(module: nn.Module, kernels: RowKernels, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    fused = fused_forward(module, kernels)
    assert fused is not None
    generator = torch.Generator().manual_seed(4)
    hidden, grad = (torch.randn(shape, generator=generator).mul(3).to(dtype) for _ in range(2))
    for found, wanted in zip(results(fused, hidden, grad), results(module, hidden, grad), strict=True):
        assert found.dtype == wanted.dtype
        assert float((found.float() - wanted.float()).norm() / wanted.float().norm()) < CLOSE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [LlamaRMSNorm, Gemma2RMSNorm])
@pytest.mark.parametrize("width", [33, 576])
def test_norms(kernels, kind, width, dtype):
    module = kind(width).to(dtype)
    with torch.no_grad():
        module.weight.copy_(torch.linspace(-1, 2, width))
    module.requires_grad_(False)
    check(module, kernels, (1, 70, width), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gated_blocks(kernels, dtype):
    torch.manual_seed(1)
    block = (
        LlamaMLP(LlamaConfig(hidden_size=48, num_attention_heads=4, intermediate_size=5000))
        .to(dtype)
        .requires_grad_(False)
    )
    check(block, kernels, (1, 9, 48), dtype)


def test_what_is_trained_or_of_another_form_is_left_alone(kernels):
    assert fused_forward(LlamaRMSNorm(16), kernels) is None
    assert fused_forward(nn.LayerNorm(16).requires_grad_(False), kernels) is None
    block = LlamaMLP(LlamaConfig(hidden_size=16, num_attention_heads=4, intermediate_size=32, hidden_act="relu"))
    assert fused_forward(block, kernels) is None
    doubled = type("Doubled", (LlamaMLP,), {"forward": lambda self, x: 2 * LlamaMLP.forward(self, x)})
    assert (
        fused_forward(doubled(LlamaConfig(hidden_size=16, num_attention_heads=4, intermediate_size=32)), kernels)
        is None
    )
