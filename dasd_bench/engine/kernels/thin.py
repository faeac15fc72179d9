"""The compiled product over rows of a thin and a wide matrix: the gradients of LoRA's matrices."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from dasd_bench.engine.kernels.build import load, threads

ONE_THREAD = 1 << 18
"""Below this many multiplications a product runs on one thread."""


class ThinKernel:
    """``a^T b`` of a thin matrix ``a`` and a wide one; sums are float32."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, whole = ctypes.c_void_p, ctypes.c_int64
        self._call = library.dasd_thin
        self._call.argtypes = [whole, pointer, pointer, pointer, whole, whole, whole, whole]
        self._call.restype = None

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Float32 [thin, wide] of ``a`` [N, thin] and ``b`` [N, wide], float32 or bfloat16."""
        a, b = a.float().contiguous(), b.contiguous()
        rows, thin = a.shape
        wide = b.shape[1]
        out = torch.empty(thin, wide)
        self._call(
            int(b.dtype == torch.bfloat16), a.data_ptr(), b.data_ptr(), out.data_ptr(), rows, thin, wide,
            threads(rows * thin * wide, ONE_THREAD),
        )  # fmt: skip
        return out


def load_thin_kernel(device: torch.device, dtype: torch.dtype) -> ThinKernel | None:
    """The kernel for that dtype, or None where it does not fit or cannot be built."""
    library = load("thin", device, dtype)
    return None if library is None else ThinKernel(library)
