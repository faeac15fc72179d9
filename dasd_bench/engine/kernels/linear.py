"""The compiled product of rows with packed weights, in float32."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor
from torch.nn.functional import pad

from dasd_bench.engine.kernels.build import LANES, load, threads

PANEL = 2 * LANES
"""Outputs whose weights lie side by side."""

ONE_THREAD = 1 << 16
"""Below this many multiplications a product runs on one thread."""


class Activation(IntEnum):
    """What the kernel can do to the gate of a gated block."""

    SWISH = 1
    GELU_TANH = 2


@dataclass(frozen=True, slots=True)
class Panels:
    """Weights as the kernel reads them: float32 [panels, in, 32], bias float32 [panels, 32] or None.

    ``outputs`` numbers come of a row; the last panel is filled up with zeros.
    """

    weights: Tensor
    bias: Tensor | None
    outputs: int


def pack(weight: Tensor, bias: Tensor | None) -> Panels:
    """``weight`` [out, in] and ``bias`` [out] of one linear layer."""
    return Panels(_panels(weight, PANEL).contiguous(), None if bias is None else _bias(bias, PANEL), weight.shape[0])


def pack_gated(gate: Tensor, other: Tensor, gate_bias: Tensor | None, other_bias: Tensor | None) -> Panels:
    """Both products of a gated block, [out, in] each: 16 outputs of the gate, then the same 16 of the other."""
    bias = None
    if gate_bias is not None or other_bias is not None:
        both = [_bias(gate.new_zeros(gate.shape[0]) if b is None else b, LANES) for b in (gate_bias, other_bias)]
        bias = torch.cat(both, dim=1)
    weights = torch.cat([_panels(gate, LANES), _panels(other, LANES)], dim=2)
    return Panels(weights, bias, gate.shape[0])


def _panels(weight: Tensor, width: int) -> Tensor:
    outputs, inputs = weight.shape
    filled = pad(weight.detach(), (0, 0, 0, -outputs % width))
    return filled.view(-1, width, inputs).transpose(1, 2)


def _bias(bias: Tensor, width: int) -> Tensor:
    return pad(bias.detach(), (0, -bias.numel() % width)).view(-1, width)


class LinearKernel:
    """Products in tiles that stay in registers. A row's result does not depend on the rows beside it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, whole = ctypes.c_void_p, ctypes.c_int64
        self._call = library.dasd_linear
        self._call.argtypes = [pointer, pointer, pointer, pointer, whole, whole, whole, whole, whole]
        self._call.restype = None

    def __call__(self, hidden: Tensor, panels: Panels, activation: Activation | None = None) -> Tensor:
        """``hidden`` float32 [..., in] to [..., outputs]; with ``activation`` the panels are those of a gated block."""
        hidden = hidden.contiguous()
        inputs = hidden.shape[-1]
        rows = hidden.numel() // inputs
        out = hidden.new_empty(*hidden.shape[:-1], panels.outputs)
        self._call(
            hidden.data_ptr(), panels.weights.data_ptr(), None if panels.bias is None else panels.bias.data_ptr(),
            out.data_ptr(), rows, inputs, panels.outputs, activation or 0,
            threads(rows * inputs * panels.outputs, ONE_THREAD),
        )  # fmt: skip
        return out


def load_linear_kernel(device: torch.device, dtype: torch.dtype) -> LinearKernel | None:
    """The kernel where it fits (float32 on a CPU with AVX-512) and can be built, else None."""
    if dtype != torch.float32 or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    library = load("linear", device, dtype)
    return None if library is None else LinearKernel(library)
