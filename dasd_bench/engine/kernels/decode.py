"""The compiled attention of the decoding step."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from dasd_bench.engine.attention import Scale
from dasd_bench.engine.kernels.build import load, threads

ONE_THREAD = 1 << 18
"""Below this many products of query and key elements a step runs on one thread."""


class DecodeKernel:
    """Attention of the decoding step.

    Rows have unlike lengths, and torch's attention pads them to the longest; the kernel reads each row's keys once and
    nothing else.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._call = library.dasd_decode_attention
        pointer, whole, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
        self._call.argtypes = [
            whole, pointer, pointer, pointer, pointer, pointer, whole, pointer, pointer, whole, whole, whole,
            whole, whole, real, real, pointer, pointer, whole,
        ]  # fmt: skip
        self._call.restype = None

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Tensor,
        how: Scale,
        shared: Tensor,
        width: int = 1,
        held: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Appends ``key`` and ``value`` to the rows and attends.

        ``query`` [B, H, D], ``key`` and ``value`` [B, Hkv, D]; ``keys`` and ``values`` [rows, Hkv, capacity, D],
        contiguous; ``lengths`` int64 [B], tokens held before. ``width`` rows are one item, and the first ``shared[b]``
        (int64 [B]) tokens of a row are read where the item's first row holds them. Gives output [B, H, D], log-sum-exp
        float32 [B, H]. A window counts from the row's own first token. ``held``: the sum of ``lengths``, where known.
        """
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        rows, heads, dim = query.shape
        groups = key.shape[1]
        out = torch.empty_like(query)
        lse = torch.empty(rows, heads, dtype=torch.float32)
        self._call(
            int(query.dtype == torch.bfloat16), query.data_ptr(), key.data_ptr(), value.data_ptr(),
            keys.data_ptr(), values.data_ptr(), keys.shape[2], lengths.data_ptr(), shared.data_ptr(), rows, width,
            groups, heads // groups, how.window or 0, how.scaling, how.softcap or 0.0, out.data_ptr(), lse.data_ptr(),
            threads(heads * dim * (int(lengths.sum()) if held is None else held), ONE_THREAD),
        )  # fmt: skip
        return out, lse


def load_decode_kernel(device: torch.device, dtype: torch.dtype, head_dim: int) -> DecodeKernel | None:
    """The kernel for this model, or None where it does not fit or cannot be built."""
    library = load("decode", device, dtype, head_dim)
    return None if library is None else DecodeKernel(library)
