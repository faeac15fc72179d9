"""The compiled causal attention of packed rows and its gradient, for training."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from itertools import accumulate

import torch
from torch import Tensor

from dasd_bench.engine.kernels.build import LANES, load, threads

ONE_THREAD = 1 << 18
"""Below this many products of query and key elements a call runs on one thread."""


class CausalKernel:
    """Attention [L, H, D] of queries [L, H, D] on keys and values [L, G, D], all float32 and contiguous, where rows of
    ``lengths`` tokens lie one after the other. ``window`` 0: none."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, whole = ctypes.c_void_p, ctypes.c_int64
        self._call = library.dasd_causal
        self._call.argtypes = [*(pointer for _ in range(10)), *(whole for _ in range(5)), ctypes.c_float, whole]
        self._call.restype = None

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scaling: float, window: int
    ) -> tuple[Tensor, Tensor]:
        """The attention, and the log-sum-exp of the scores [H, L]."""
        out, lse = torch.empty_like(query), torch.empty(query.shape[1], query.shape[0])
        self._run(query, key, value, out, lse, None, (None, None, None), lengths, scaling, window)
        return out, lse

    def backward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        out: Tensor,
        lse: Tensor,
        grad: Tensor,
        lengths: Sequence[int],
        scaling: float,
        window: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of query, key and value from ``grad``, that of the attention, and what :meth:`forward` gave."""
        gradients = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        self._run(query, key, value, out, lse, grad, gradients, lengths, scaling, window)
        return gradients

    def _run(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        out: Tensor,
        lse: Tensor,
        grad: Tensor | None,
        gradients: Sequence[Tensor | None],
        lengths: Sequence[int],
        scaling: float,
        window: int,
    ) -> None:
        _, heads, dim = query.shape
        starts = torch.tensor([0, *accumulate(lengths)])
        pointers = [None if one is None else one.data_ptr() for one in (query, key, value, out, lse, grad, *gradients)]
        work = heads * dim * sum(length * length for length in lengths)
        self._call(
            *pointers, starts.data_ptr(), len(lengths), heads, key.shape[1], dim, window, scaling,
            threads(work, ONE_THREAD),
        )  # fmt: skip


@cache
def load_causal_kernel(device: torch.device, head_dim: int) -> CausalKernel | None:
    """The kernel for heads of that width, or None where it does not fit or cannot be built."""
    if head_dim % LANES:
        return None
    library = load("causal", device, torch.float32)
    return None if library is None else CausalKernel(library)
