"""Frozen linear layers and LoRA on top of them, as one differentiable operation.

Two gains over the plain modules. Speed: the frozen weight is packed once for oneDNN in both directions (on CPU,
where ``torch.nn.functional.linear`` in float32 goes to a library that is slow on some processors), and no gradient is
made for it. Precision: base output and LoRA term are added inside one rounding. In bfloat16 the plain order,
``bf16(x W) + LoRA`` and rounding again, loses every update smaller than half a step of the bfloat16 grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers.pytorch_utils import Conv1D

from dasd_bench.engine.kernels.thin import ThinKernel
from dasd_bench.training.quantize import is_quantized, plain_weight

PACK_ROWS = 512
"""Rows that the packed layout is chosen for."""


class FrozenWeight:
    """A weight [out, in] that is never trained, ready to be applied in both directions.

    It is read from its layer at every call: a layer that is cut over processes has its whole weight only while it runs,
    and one in 4 bits makes it plain for one product. Without ``pack`` there are no copies of it.
    """

    def __init__(self, linear: nn.Linear | Conv1D, *, pack: bool = True) -> None:
        self._linear: Any = linear
        self._forward: Tensor | None = None
        self._backward: Tensor | None = None
        self.packed = pack and worth_packing(linear.weight)
        if self.packed:
            self._forward = _pack(self.weight.contiguous())
            self._backward = _pack(self.weight.t().contiguous())

    @property
    def weight(self) -> Tensor:
        """The weight, without gradient."""
        if is_quantized(self._linear):
            return plain_weight(self._linear)
        weight: Tensor = self._linear.weight.detach()
        # GPT-2's Conv1D is a linear layer that keeps its weight as [in, out].
        return weight.t() if isinstance(self._linear, Conv1D) else weight

    @property
    def bias(self) -> Tensor | None:
        """The bias, without gradient."""
        return None if self._linear.bias is None else self._linear.bias.detach()

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """``x W^T + bias + plus`` of ``x`` [N, in] and ``plus`` [N, out], rounded once."""
        return _apply(x, self.weight.t(), self._forward, self.bias, plus)

    def backward(self, grad: Tensor, plus: Tensor | None = None) -> Tensor:
        """``grad W + plus`` of ``grad`` [N, out] and ``plus`` [N, in], rounded once."""
        return _apply(grad, self.weight, self._backward, None, plus)


def worth_packing(weight: Tensor) -> bool:
    """True where packing pays and exists: whole weights on a CPU that does their dtype well, oneDNN in this torch."""
    namespace = torch.ops.mkldnn
    if isinstance(weight.data, DTensor):
        return False
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if not (hasattr(namespace, "_reorder_linear_weight") and hasattr(namespace, "_linear_pointwise")):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(namespace._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, PACK_ROWS)
    return packed


def _apply(x: Tensor, matrix: Tensor, packed: Tensor | None, bias: Tensor | None, plus: Tensor | None) -> Tensor:
    out: Tensor
    if packed is not None:
        operation = torch.ops.mkldnn._linear_pointwise
        if plus is None:
            out = operation(x, packed, bias, "none", [], "")
        else:
            out = operation.binary(x, plus, packed, bias, "add")
        return out
    if plus is None:
        return x @ matrix if bias is None else torch.addmm(bias, x, matrix)
    out = torch.addmm(plus, x, matrix)
    # Not added to ``plus``: the sum of a large bias and a small term would lose the same term every time.
    return out if bias is None else out + bias


def _thin(x: Tensor, weight: Tensor, frozen: FrozenWeight) -> Tensor:
    """``x weight^T`` for a thin weight; through oneDNN where the frozen weight goes there, too."""
    if frozen.packed:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight.contiguous(), None, "none", [], "")
        return out
    return x @ weight.t()


def _over_rows(a: Tensor, b: Tensor, kernel: ThinKernel | None) -> Tensor:
    """Float32 ``a^T b`` [r, out] of a thin ``a`` [N, r] and ``b`` [N, out]."""
    return (a.t() @ b).float() if kernel is None else kernel(a, b)


class _Frozen(torch.autograd.Function):
    """y = x W^T + bias + plus."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plus: Tensor | None, frozen: FrozenWeight) -> Tensor:
        ctx.frozen = frozen
        return frozen.forward(x, plus)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        grad = grads[0].contiguous()
        need_x, need_plus = ctx.needs_input_grad[:2]
        return ctx.frozen.backward(grad) if need_x else None, grad if need_plus else None, None


class _Lora(torch.autograd.Function):
    """y = x W^T + bias + s (x A^T) B^T, with the gradients of x, A and B written out."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, a: Tensor, b: Tensor, scale: float, frozen: FrozenWeight, kernel: ThinKernel | None
    ) -> Tensor:
        a, scaled_b = a.to(x.dtype), (b * scale).to(x.dtype)
        low = _thin(x, a, frozen)
        ctx.save_for_backward(x, a, scaled_b, low)
        ctx.scale, ctx.frozen, ctx.kernel = scale, frozen, kernel
        if x.dtype == torch.float32:
            # Nothing is rounded between: added where the product lies, which spares a matrix of its size.
            return frozen.forward(x).addmm_(low, scaled_b.t())
        return frozen.forward(x, _thin(low, scaled_b, frozen))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None, None]:
        x, a, scaled_b, low = ctx.saved_tensors
        grad = grads[0].contiguous()
        low_grad = _thin(grad, scaled_b.t(), ctx.frozen)
        x_grad = None
        if ctx.needs_input_grad[0] and grad.dtype == torch.float32:
            x_grad = ctx.frozen.backward(grad).addmm_(low_grad, a)
        elif ctx.needs_input_grad[0]:
            x_grad = ctx.frozen.backward(grad, _thin(low_grad, a.t(), ctx.frozen))
        a_grad = _over_rows(low_grad, x, ctx.kernel)
        b_grad = _over_rows(low, grad, ctx.kernel).t() * ctx.scale
        return x_grad, a_grad, b_grad, None, None, None


def frozen_forward(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    """A drop-in ``forward`` for a frozen linear layer."""
    frozen = FrozenWeight(linear)

    def forward(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        y: Tensor = _Frozen.apply(flat, None, frozen)  # type: ignore[no-untyped-call]
        return y.view(*x.shape[:-1], -1)

    return forward


def lora_forward(
    layer: Any, adapter: str, *, pack: bool = True, kernel: ThinKernel | None = None
) -> Callable[[Tensor], Tensor]:
    """A drop-in ``forward`` for a plain LoRA layer of peft: same parameters, one rounding.

    ``kernel`` computes the gradients of LoRA's matrices; without it torch does.
    """
    frozen = FrozenWeight(layer.base_layer, pack=pack)
    lora_a, lora_b = layer.lora_A[adapter], layer.lora_B[adapter]
    dropout, scale = layer.lora_dropout[adapter], float(layer.scaling[adapter])

    def forward(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        y: Tensor
        if layer.disable_adapters:
            y = _Frozen.apply(flat, None, frozen)  # type: ignore[no-untyped-call]
        elif isinstance(dropout, nn.Identity):
            y = _Lora.apply(flat, lora_a.weight, lora_b.weight, scale, frozen, kernel)  # type: ignore[no-untyped-call]
        else:
            low = F.linear(dropout(flat), lora_a.weight.to(flat.dtype))
            term = F.linear(low, (lora_b.weight * scale).to(flat.dtype))
            y = _Frozen.apply(flat, term, frozen)  # type: ignore[no-untyped-call]
        return y.view(*x.shape[:-1], -1)

    return forward
