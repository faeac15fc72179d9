"""Frozen norms and gated feed-forward blocks with their gradients in one pass over memory each, on a CPU.

torch takes five to ten passes for each, every one as long as the activations are large. What a module does is seen by
trying it, as in the engine (:mod:`dasd_bench.engine.module_overrides`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dasd_bench.engine.kernels.layers import NormParts
from dasd_bench.engine.kernels.rows import RowKernels
from dasd_bench.engine.module_overrides import TOLERANCE, difference, norm_override

PARTS = {"gate_proj", "up_proj", "down_proj", "act_fn"}


class _Norm(torch.autograd.Function):
    """A root-mean-square norm whose weight is not trained."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, kernels: RowKernels, parts: NormParts) -> Tensor:
        ctx.save_for_backward(hidden)
        ctx.kernels, ctx.parts = kernels, parts
        return kernels.rms_norm(hidden, parts.weight, parts.eps, parts.plus, parts.late)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (hidden,), own = ctx.saved_tensors, ctx.parts
        return ctx.kernels.rms_norm_backward(hidden, grads[0], own.weight, own.eps, own.plus), None, None


class _Gated(torch.autograd.Function):
    """swish(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, kernels: RowKernels) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.kernels = kernels
        return kernels.gated(gate, up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        return (*ctx.kernels.gated_backward(*ctx.saved_tensors, grads[0]), None)


def fused_forward(module: nn.Module, kernels: RowKernels) -> Callable[[Tensor], Tensor] | None:
    """A drop-in ``forward`` for a norm or a gated block of that form; None for any other module."""
    if set(module._modules) == PARTS and type(module.act_fn).__name__ in ("SiLU", "SiLUActivation"):
        return _gated_forward(module, kernels)
    if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
        return None
    override = norm_override(module, kernels)
    if override is None:
        return None
    parts = override.parts

    def forward(hidden: Tensor) -> Tensor:
        out: Tensor = _Norm.apply(hidden, kernels, parts)  # type: ignore[no-untyped-call]
        return out

    return forward


def _gated_forward(block: Any, kernels: RowKernels) -> Callable[[Tensor], Tensor] | None:
    def forward(hidden: Tensor) -> Tensor:
        inner: Tensor = _Gated.apply(block.gate_proj(hidden), block.up_proj(hidden), kernels)  # type: ignore[no-untyped-call]
        out: Tensor = block.down_proj(inner)
        return out

    weight = block.gate_proj.weight
    if weight.dtype not in TOLERANCE:  # in 4 bits
        return None
    return forward if difference(block, forward, weight.shape[1], weight.dtype) <= TOLERANCE[weight.dtype] else None
