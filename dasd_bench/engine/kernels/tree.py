"""The compiled attention of token trees: prompts, and targets that share their context."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dasd_bench.engine.attention import Scale
from dasd_bench.engine.kernels.build import load, threads

CHUNK = 16
"""Neighbouring tokens that are computed together; ``TOGETHER`` in tree.cpp."""

ONE_THREAD = 1 << 7
"""Below this many tokens a pass runs on one thread."""

Whole = np.ndarray[tuple[int, int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Layout:
    """Who sees what in a pass, as tree.cpp reads it.

    ``spans`` int64 [S, 4]: source, first token, end, position of the first. ``chunks`` int64 [C, 5]: first token,
    number (at most :data:`CHUNK`), position of the first, first span, end of the spans. The last span is the
    tokens' own run.
    """

    spans: Whole
    chunks: Whole


class TreeKernel:
    """Attention of every token over its own run up to itself and over what the run hangs on."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._call = library.dasd_tree_attention
        pointer, whole, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
        self._call.argtypes = [
            whole, pointer, whole, whole, pointer, pointer, pointer, whole, whole, whole, whole, real, real, pointer,
            whole,
        ]  # fmt: skip
        self._call.restype = None

    def __call__(self, query: Tensor, sources: list[tuple[Tensor, Tensor]], layout: Layout, how: Scale) -> Tensor:
        """Attention output [N, H, D] of ``query`` [H, N, D].

        ``sources`` are (keys, values) [Hkv, tokens, D] with equal strides, the pass's own first. float32 or bfloat16;
        sums are float32.
        """
        if query.stride(2) != 1:
            query = query.contiguous()
        heads, count, dim = query.shape
        places = np.empty((len(sources), 4), dtype=np.int64)
        held = []
        for number, (keys, values) in enumerate(sources):
            if keys.stride(2) != 1 or keys.stride() != values.stride():
                keys, values = keys.contiguous(), values.contiguous()
            held.append((keys, values))
            places[number] = keys.data_ptr(), values.data_ptr(), keys.stride(1), keys.stride(0)
        out = query.new_empty(count, heads, dim)
        groups = sources[0][0].shape[0]
        self._call(
            int(query.dtype == torch.bfloat16), query.data_ptr(), query.stride(1), query.stride(0),
            places.ctypes.data, layout.spans.ctypes.data, layout.chunks.ctypes.data, len(layout.chunks), groups,
            heads // groups, how.window or 0, how.scaling, how.softcap or 0.0, out.data_ptr(),
            threads(count, ONE_THREAD),
        )  # fmt: skip
        return out


def load_tree_kernel(device: torch.device, dtype: torch.dtype, head_dim: int) -> TreeKernel | None:
    """The kernel for this model, or None where it does not fit or cannot be built."""
    library = load("tree", device, dtype, head_dim)
    return None if library is None else TreeKernel(library)
