"""Linear layers with weights laid out once for the machine's matrix library.

In fp32, ``torch.nn.functional.linear`` goes to MKL, which on AMD processors reaches less than half of what oneDNN
does with a weight it has packed; in bf16 packing saves the reordering of the weight at every call. The packed copy is
taken when the engine is made, so an engine must be made after the weights last changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from torch import Tensor, nn

ROWS = 64
"""The number of rows the packing is tuned for; measured the same at 8 to 2048 rows."""

MEMORY_SHARE = 0.5
"""The share of the free memory that the packed copies may take; a model that needs more runs on torch's own."""


class PackedLinear(nn.Module):
    """Computes what the :class:`torch.nn.Linear` it was made from does, then ``activation``; inference on CPU only.

    ``activation`` is oneDNN's name of an activation and of its variant, applied before the result is rounded.
    """

    def __init__(self, linear: nn.Linear, activation: tuple[str, str] = ("none", "")) -> None:
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self._activation = activation
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` [..., in_features] to [..., out_features]."""
        name, variant = self._activation
        out: Tensor = torch.ops.mkldnn._linear_pointwise(hidden, self._packed, self.bias, name, [], variant)
        return out


def can_pack(weight: Tensor) -> bool:
    """True where oneDNN's packed product exists and was seen to give the same result."""
    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.bfloat16):
        return False
    try:
        probe = nn.Linear(16, 16, bias=False, dtype=weight.dtype)
        rows = torch.ones(2, 16, dtype=weight.dtype)
        with torch.no_grad():
            return bool(torch.allclose(PackedLinear(probe)(rows), probe(rows), rtol=0.02, atol=0.02))
    except (RuntimeError, AttributeError):  # torch without oneDNN, or with other names for it
        return False


def gate_activation(block: nn.Module) -> tuple[str, str] | None:
    """oneDNN's name for the activation of a gated feed-forward block, down(act_fn(gate(x)) * up(x)), else None.

    Blocks are known by the names that Llama's descendants share; the engine's probe sees whether they mean the same.
    """
    parts = block._modules
    activation = parts.get("act_fn")
    if activation is None or not {"gate_proj", "up_proj", "down_proj"} <= set(parts):
        return None
    return {"SiLU": ("swish", ""), "SiLUActivation": ("swish", ""), "GELUTanh": ("gelu", "tanh")}.get(
        type(activation).__name__
    )


class Exchange:
    """The packed stand-ins for the linear layers below a module, put in place only inside :meth:`active`."""

    def __init__(self, root: nn.Module) -> None:
        self._places: list[tuple[nn.Module, str, nn.Module, nn.Module]] = []
        done: dict[int, PackedLinear] = {}
        fits: dict[tuple[torch.device, torch.dtype], bool] = {}
        weights = {id(m.weight): m.weight for m in root.modules() if type(m) is nn.Linear}
        if sum(weight.nbytes for weight in weights.values()) > psutil.virtual_memory().available * MEMORY_SHARE:
            return
        for parent in root.modules():
            for name, child in parent.named_children():
                if type(child) is not nn.Linear:
                    continue
                kind = (child.weight.device, child.weight.dtype)
                if kind not in fits:
                    fits[kind] = can_pack(child.weight)
                if fits[kind]:
                    gate = gate_activation(parent) if name == "gate_proj" else None
                    if gate is not None:
                        self._places.append((parent, name, child, PackedLinear(child, gate)))
                        self._places.append((parent, "act_fn", parent.get_submodule("act_fn"), nn.Identity()))
                        continue
                    if id(child) not in done:
                        done[id(child)] = PackedLinear(child)
                    self._places.append((parent, name, child, done[id(child)]))

    @property
    def count(self) -> int:
        """How many layers have a stand-in."""
        return sum(isinstance(stand_in, PackedLinear) for _, _, _, stand_in in self._places)

    @contextmanager
    def active(self) -> Iterator[None]:
        """The stand-ins are in the model while the block runs."""
        for parent, name, _, stand_in in self._places:
            parent._modules[name] = stand_in
        try:
            yield
        finally:
            for parent, name, linear, _ in self._places:
                parent._modules[name] = linear
