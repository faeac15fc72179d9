"""Linear layers and gated feed-forward blocks with weights laid out once for what multiplies them.

In fp32, ``torch.nn.functional.linear`` goes to MKL, which on AMD processors reaches less than half of what oneDNN
does with a weight it has packed; in bf16 packing saves the reordering of the weight at every call. Where the compiled
kernel is there (AVX-512) it takes oneDNN's place: at the few dozen rows of a decoding step it gains another tenth to a
third, at a thousand both are as fast as the machine. The packed copy is taken when the engine is made, so an
engine must be made after the weights last changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dasd_bench.engine.kernels.linear import Activation, LinearKernel, Panels, pack, pack_gated
from dasd_bench.engine.limits import available_bytes

ROWS = 64
"""The number of rows the packing is tuned for; measured the same at 8 to 2048 rows."""

MEMORY_SHARE = 0.5
"""The share of the free memory that the packed copies may take; a model that needs more runs on torch's own."""

ACTIVATIONS: dict[str, tuple[tuple[str, str], Activation]] = {
    "SiLU": (("swish", ""), Activation.SWISH),
    "SiLUActivation": (("swish", ""), Activation.SWISH),
    "GELUTanh": (("gelu", "tanh"), Activation.GELU_TANH),
}
"""oneDNN's name and variant of an activation, and the kernel's, by the name of its class."""


class PackedLinear(nn.Module):
    """oneDNN's product. Computes what the :class:`torch.nn.Linear` it was made from does; inference on CPU only."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` [..., in_features] to [..., out_features]."""
        return self.activated(hidden, "none", "")

    def activated(self, hidden: Tensor, activation: str, variant: str) -> Tensor:
        """The product, then an activation by oneDNN's name for it and its variant, before the result is rounded."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(hidden, self._packed, self.bias, activation, [], variant)
        return out

    def plus(self, hidden: Tensor, term: Tensor) -> Tensor:
        """The product plus ``term`` [..., out_features], before the result is rounded."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(hidden, term, self._packed, self.bias, "add")
        return out

    def times(self, hidden: Tensor, factor: Tensor) -> Tensor:
        """The product times ``factor`` [..., out_features], before the result is rounded."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(hidden, factor, self._packed, self.bias, "mul")
        return out


class PanelLinear(nn.Module):
    """The compiled kernel's product. Computes what the :class:`torch.nn.Linear` it was made from does."""

    def __init__(self, linear: nn.Linear, kernel: LinearKernel) -> None:
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self._kernel = kernel
        self.panels = pack(linear.weight, linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` [..., in_features] to [..., out_features]."""
        return self._kernel(hidden, self.panels)


@dataclass(frozen=True, slots=True)
class PanelGate:
    """activation(gate(x)) * up(x) by the compiled kernel."""

    kernel: LinearKernel
    panels: Panels
    activation: Activation

    def __call__(self, hidden: Tensor) -> Tensor:
        """``hidden`` [..., width] to [..., inner width]."""
        return self.kernel(hidden, self.panels, self.activation)


class GatedBlock(nn.Module):
    """down(activation(gate(x)) * up(x)): two or three products, each with what follows it; inference on CPU only."""

    def __init__(self, inner: Callable[[Tensor], Tensor], down: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.down = down

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` [..., width] to the same shape."""
        out: Tensor = self.down(self.inner(hidden))
        return out


class Packer:
    """Packs linear layers by the kernel where it is given and fits, else by oneDNN."""

    def __init__(self, kernel: LinearKernel | None) -> None:
        self._kernel = kernel
        self._fits: dict[tuple[torch.device, torch.dtype], bool] = {}

    def fits(self, linear: nn.Linear) -> bool:
        """True where such a layer can be packed; tried once per device and dtype."""
        kind = (linear.weight.device, linear.weight.dtype)
        if kind not in self._fits:
            self._fits[kind] = can_pack(linear.weight)
        return self._fits[kind]

    def linear(self, linear: nn.Linear) -> PackedLinear | PanelLinear:
        """The override for one layer that fits."""
        if self._kernel is not None and self._kernel.fits(linear.weight):
            return PanelLinear(linear, self._kernel)
        return PackedLinear(linear)

    def gated(self, gate: nn.Linear, up: nn.Linear, activation: str) -> Callable[[Tensor], Tensor]:
        """activation(gate(x)) * up(x); ``activation`` is a key of ``ACTIVATIONS``."""
        names, number = ACTIVATIONS[activation]
        kernel = self._kernel
        if kernel is not None and kernel.fits(gate.weight):
            return PanelGate(kernel, pack_gated(gate.weight, up.weight, gate.bias, up.bias), number)
        first, second = PackedLinear(gate), PackedLinear(up)
        return lambda hidden: second.times(hidden, first.activated(hidden, *names))


def room_to_pack(linears: Iterable[Any]) -> bool:
    """True where packed copies of all these layers fit into their share of the free memory."""
    weights: dict[int, Tensor] = {id(linear.weight): linear.weight for linear in linears}
    device = next((weight.device for weight in weights.values()), torch.device("cpu"))
    return sum(weight.nbytes for weight in weights.values()) <= available_bytes(device) * MEMORY_SHARE


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
