"""The compiled product of rows with packed weights, in float32 and bfloat16."""

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
    """Weights as the kernel reads them: float32 [panels, in, 32] or bfloat16 [panels, in / 2, 32, 2].

    ``bias`` is float32 [panels, 32] or None. ``outputs`` numbers come of a row; the last panel is filled up with zeros.
    """

    weights: Tensor
    bias: Tensor | None
    outputs: int

    @property
    def inputs(self) -> int:
        """Numbers in a row."""
        return self.weights.shape[1] * (2 if self.weights.dtype == torch.bfloat16 else 1)


def pack(weight: Tensor, bias: Tensor | None) -> Panels:
    """``weight`` [out, in] and ``bias`` [out] of one linear layer."""
    return Panels(_pairs(_panels(weight, PANEL)), None if bias is None else _bias(bias, PANEL), weight.shape[0])


def pack_gated(gate: Tensor, other: Tensor, gate_bias: Tensor | None, other_bias: Tensor | None) -> Panels:
    """Both products of a gated block, [out, in] each: 16 outputs of the gate, then the same 16 of the other."""
    bias = None
    if gate_bias is not None or other_bias is not None:
        both = [_bias(gate.new_zeros(gate.shape[0]) if b is None else b, LANES) for b in (gate_bias, other_bias)]
        bias = torch.cat(both, dim=1)
    weights = torch.cat([_panels(gate, LANES), _panels(other, LANES)], dim=1)
    return Panels(_pairs(weights), bias, gate.shape[0])


def _panels(weight: Tensor, width: int) -> Tensor:
    """[panels, width, in], the last one filled up."""
    return pad(weight.detach(), (0, 0, 0, -weight.shape[0] % width)).view(-1, width, weight.shape[1])


def _pairs(panels: Tensor) -> Tensor:
    """Input after input; two of them side by side where the kernel takes two at a time."""
    if panels.dtype == torch.bfloat16:
        panels = panels.view(*panels.shape[:2], -1, 2)
    return panels.transpose(1, 2).contiguous()


def _bias(bias: Tensor, width: int) -> Tensor:
    return pad(bias.detach().float(), (0, -bias.numel() % width)).view(-1, width)


class LinearKernel:
    """Products in tiles that stay in registers. A row's result does not depend on the rows beside it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, whole = ctypes.c_void_p, ctypes.c_int64
        self._call = library.dasd_linear
        self._call.argtypes = [whole, pointer, pointer, pointer, pointer, whole, whole, whole, whole, whole]
        self._call.restype = whole
        # No rows: it says whether the processor has what products of bfloat16 need (AVX-512 BF16).
        pairs = bool(self._call(1, None, None, None, None, 0, 2, 1, 0, 1))
        self.dtypes = {torch.float32, torch.bfloat16} if pairs else {torch.float32}

    def fits(self, weight: Tensor) -> bool:
        """True for weights [out, in] that it can multiply with: bfloat16 goes by two inputs at a time."""
        return weight.dtype in self.dtypes and (weight.dtype == torch.float32 or weight.shape[1] % 2 == 0)

    def __call__(self, hidden: Tensor, panels: Panels, activation: Activation | None = None) -> Tensor:
        """``hidden`` [..., in] to [..., outputs] in the dtype of the weights; sums are float32.

        With ``activation`` the panels are those of a gated block.

        Raises:
            RuntimeError: ``hidden`` has another dtype or width than the weights, as :class:`torch.nn.Linear` does.
        """
        if hidden.dtype != panels.weights.dtype or hidden.shape[-1] != panels.inputs:
            raise RuntimeError(f"{hidden.dtype} rows of {hidden.shape[-1]} for {panels.inputs} {panels.weights.dtype}")
        hidden = hidden.contiguous()
        inputs = hidden.shape[-1]
        rows = hidden.numel() // inputs
        out = hidden.new_empty(*hidden.shape[:-1], panels.outputs)
        self._call(
            int(hidden.dtype == torch.bfloat16), hidden.data_ptr(), panels.weights.data_ptr(),
            None if panels.bias is None else panels.bias.data_ptr(), out.data_ptr(),
            rows, inputs, panels.outputs, activation or 0, threads(rows * inputs * panels.outputs, ONE_THREAD),
        )  # fmt: skip
        return out


def load_linear_kernel(device: torch.device, dtype: torch.dtype) -> LinearKernel | None:
    """The kernel where it fits (a CPU with AVX-512, for bfloat16 with AVX-512 BF16) and can be built, else None."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    library = load("linear", device, dtype)
    if library is None:
        return None
    kernel = LinearKernel(library)
    return kernel if dtype in kernel.dtypes else None
