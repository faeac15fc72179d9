"""Linear layers with weights laid out once for the machine's matrix library.

In fp32, ``torch.nn.functional.linear`` goes to MKL, which on AMD processors reaches less than half of what oneDNN
does with a weight it has packed; in bf16 packing saves the reordering of the weight at every call. The packed copy is
taken when the engine is made, so an engine must be made after the weights last changed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROWS = 64
"""The number of rows the packing is tuned for; measured the same at 8 to 2048 rows."""


class PackedLinear(nn.Module):
    """Computes what the :class:`torch.nn.Linear` it was made from does; inference on CPU only."""

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

    def times(self, hidden: Tensor, factor: Tensor) -> Tensor:
        """The product times ``factor`` [..., out_features], before the result is rounded."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(hidden, factor, self._packed, self.bias, "mul")
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
