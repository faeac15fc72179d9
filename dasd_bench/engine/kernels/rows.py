"""The compiled kernels over rows of numbers."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from dasd_bench.engine.kernels.build import load, threads

ONE_THREAD = 1 << 15
"""Below this many numbers a kernel runs on one thread."""


class RowKernels:
    """What is done to rows of numbers one by one, each in one pass over memory instead of torch's five to ten."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, whole, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
        self._norm = library.dasd_rms_norm
        self._norm.argtypes = [whole, pointer, pointer, pointer, whole, whole, real, real, whole, whole]
        self._norm.restype = None
        self._rotate = library.dasd_rotate
        self._rotate.argtypes = [whole, pointer, pointer, pointer, pointer, whole, whole, whole, whole]
        self._rotate.restype = None
        self._summarise = library.dasd_summarise
        self._summarise.argtypes = [pointer, whole, whole, whole, pointer, pointer, pointer, whole]
        self._summarise.restype = None

        self._norm_backward = library.dasd_rms_norm_backward
        self._norm_backward.argtypes = [
            whole, pointer, pointer, pointer, pointer, whole, whole, real, real, whole,
        ]  # fmt: skip
        self._norm_backward.restype = None
        self._gated = library.dasd_gated
        self._gated.argtypes = [whole, pointer, pointer, pointer, pointer, pointer, whole, whole]
        self._gated.restype = None

    def rms_norm(self, hidden: Tensor, weight: Tensor, eps: float, plus: float, late: bool) -> Tensor:
        """``hidden`` [..., width] divided by its root mean square, times ``plus`` + ``weight`` [width].

        float32 or bfloat16, both alike. In bfloat16 the quotient is rounded before it is multiplied, unless ``late``.
        """
        hidden = hidden.contiguous()
        out = torch.empty_like(hidden)
        width = weight.numel()
        rows = hidden.numel() // width
        self._norm(
            int(hidden.dtype == torch.bfloat16), hidden.data_ptr(), weight.data_ptr(), out.data_ptr(), rows, width,
            eps, plus, int(late), threads(hidden.numel(), ONE_THREAD),
        )  # fmt: skip
        return out

    def rms_norm_backward(self, hidden: Tensor, grad: Tensor, weight: Tensor, eps: float, plus: float) -> Tensor:
        """The gradient to ``hidden`` from ``grad``, that of the norm's output; shapes and dtypes as above."""
        hidden, grad = hidden.contiguous(), grad.contiguous()
        out = torch.empty_like(hidden)
        width = weight.numel()
        self._norm_backward(
            int(hidden.dtype == torch.bfloat16), hidden.data_ptr(), grad.data_ptr(), weight.data_ptr(), out.data_ptr(),
            hidden.numel() // width, width, eps, plus, threads(hidden.numel(), ONE_THREAD),
        )  # fmt: skip
        return out

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        """swish(``gate``) * ``up`` of two tensors of one shape, float32 or bfloat16."""
        gate, up = gate.contiguous(), up.contiguous()
        out = torch.empty_like(gate)
        self._gated(
            int(gate.dtype == torch.bfloat16), gate.data_ptr(), up.data_ptr(), None, out.data_ptr(), None,
            gate.numel(), threads(gate.numel(), ONE_THREAD),
        )  # fmt: skip
        return out

    def gated_backward(self, gate: Tensor, up: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients to ``gate`` and ``up`` from ``grad``, that of :meth:`gated`'s output."""
        gate, up, grad = gate.contiguous(), up.contiguous(), grad.contiguous()
        of_gate, of_up = torch.empty_like(gate), torch.empty_like(gate)
        self._gated(
            int(gate.dtype == torch.bfloat16), gate.data_ptr(), up.data_ptr(), grad.data_ptr(), of_gate.data_ptr(),
            of_up.data_ptr(), gate.numel(), threads(gate.numel(), ONE_THREAD),
        )  # fmt: skip
        return of_gate, of_up

    def rotate(self, heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Rotary positions for ``heads`` [1, H, N, D] by ``cosine`` and ``sine`` [1, N, D], all of one dtype.

        Element i of D turns with element i + D / 2. float32 or bfloat16; in bfloat16 both products are rounded before
        they are added, as transformers does. The result lies in memory as [N, H, D].
        """
        rows = heads[0].transpose(0, 1).contiguous()
        out = torch.empty_like(rows)
        cosine, sine = cosine.contiguous(), sine.contiguous()
        count, number, width = rows.shape
        self._rotate(
            int(rows.dtype == torch.bfloat16), rows.data_ptr(), cosine.data_ptr(), sine.data_ptr(), out.data_ptr(),
            count, number, width, threads(rows.numel(), ONE_THREAD),
        )  # fmt: skip
        return out.transpose(0, 1).unsqueeze(0)

    def summarise(self, logits: Tensor, normalise: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Log-sum-exp [B], first largest (int64 [B]) and entropy in nats [B] of ``logits`` float32 [B, V], contiguous.

        They become log-probabilities in place where ``normalise``. A row with a NaN or +inf has NaN for its
        log-sum-exp.
        """
        rows, width = logits.shape
        lse, entropy = torch.empty(2, rows)
        top = torch.empty(rows, dtype=torch.int64)
        self._summarise(
            logits.data_ptr(), rows, width, int(normalise), lse.data_ptr(), top.data_ptr(), entropy.data_ptr(),
            threads(logits.numel(), ONE_THREAD),
        )  # fmt: skip
        return lse, top, entropy


def load_row_kernels(device: torch.device, dtype: torch.dtype) -> RowKernels | None:
    """The kernels for this model, or None where they do not fit or cannot be built."""
    library = load("rows", device, dtype)
    return None if library is None else RowKernels(library)
