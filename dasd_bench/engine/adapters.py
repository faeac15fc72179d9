"""LoRA layers in half precision, base and adapter added in one rounding.

peft rounds the base's product to the weights' format and then adds the adapter's term and rounds again: an update below
half a step of bfloat16 is lost, and merging loses it in the weights. Here the term is added while the product is still
in float32, as the trainer does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from dasd_bench.engine.linears import PackedLinear, can_pack, room_to_pack


class OnceRounded(nn.Module):
    """Stands in for a plain LoRA layer of peft; inference only.

    ``adapters`` are (A [r, in], B [out, r], scale). The weight is read from the base layer, or packed once where
    ``packed``.
    """

    def __init__(self, base: Any, adapters: Sequence[tuple[Tensor, Tensor, float]], packed: bool) -> None:
        super().__init__()
        self._base = base
        self._transposed = isinstance(base, Conv1D)
        dtype = base.weight.dtype
        self._adapters = [(a.detach().to(dtype), (b.detach() * scale).to(dtype)) for a, b, scale in adapters]
        self._packed = PackedLinear(base) if packed and not self._transposed else None

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` [..., in] to [..., out]."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        term = sum((F.linear(F.linear(rows, a), b) for a, b in self._adapters[1:]), self._term(rows, 0))
        if self._packed is not None:
            out = self._packed.plus(rows, term)
        else:
            weight: Tensor = self._base.weight
            out = torch.addmm(term, rows, weight if self._transposed else weight.t())
            if self._base.bias is not None:
                # Not added to the term: the sum of a large bias and a small term would lose the same term every time.
                out = out + self._base.bias
        return out.view(*hidden.shape[:-1], -1)

    def _term(self, rows: Tensor, number: int) -> Tensor:
        a, b = self._adapters[number]
        return F.linear(F.linear(rows, a), b)


class Adapters:
    """The LoRA layers below ``root`` that have overrides, put in place only inside :meth:`active`.

    ``bases`` are the layers beneath them, by ``id``. Nothing stands in for float32 layers, where nothing is lost, nor
    for DoRA and adapted blocks of experts, which keep peft's own forward.
    """

    def __init__(self, root: nn.Module, *, packed: bool) -> None:
        self._places: list[tuple[nn.Module, str, nn.Module, nn.Module]] = []
        found = [
            (parent, name, child, *adapted)
            for parent in root.modules()
            for name, child in parent.named_children()
            if (adapted := _plain_adapters(child)) is not None
        ]
        self.bases = {id(base) for _, _, _, base, _ in found}
        packed = packed and room_to_pack(base for _, _, _, base, _ in found)
        for parent, name, child, base, adapters in found:
            pack = packed and can_pack(base.weight)
            self._places.append((parent, name, child, OnceRounded(base, adapters, pack)))

    @contextmanager
    def active(self) -> Iterator[None]:
        """The overrides are in the model while the block runs."""
        for parent, name, _, override in self._places:
            parent._modules[name] = override
        try:
            yield
        finally:
            for parent, name, module, _ in self._places:
                parent._modules[name] = module


def _plain_adapters(layer: Any) -> tuple[Any, list[tuple[Tensor, Tensor, float]]] | None:
    """The base of a plain, unmerged LoRA layer in half precision, and its active adapters; None for all else."""
    base: Any = getattr(layer, "base_layer", None)
    if type(base) not in (nn.Linear, Conv1D) or base.weight.dtype not in (torch.bfloat16, torch.float16):
        return None
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if not names or layer.merged or layer.disable_adapters or any(name in layer.lora_variant for name in names):
        return None
    return base, [(layer.lora_A[n].weight, layer.lora_B[n].weight, float(layer.scaling[n])) for n in names]
