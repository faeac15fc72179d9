"""The compiled step through all decoder layers: which parts a layer has, and the call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dasd_bench.engine.attention import Scale
from dasd_bench.engine.kernels import decode, linear, rows
from dasd_bench.engine.kernels.build import load
from dasd_bench.engine.kernels.linear import Activation, Panels

_POINTER, _WHOLE, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class _Kernels(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in ("linear", "norm", "rotate", "attention")),
        *((name, _WHOLE) for name in ("linear_work", "norm_work", "rotate_work", "attention_work")),
    )


class _Norm(ctypes.Structure):
    _fields_ = (("weight", _POINTER), ("width", _WHOLE), ("eps", _REAL), ("plus", _REAL), ("late", _WHOLE))


class _Product(ctypes.Structure):
    _fields_ = (
        ("panels", _POINTER), ("bias", _POINTER), ("inputs", _WHOLE), ("outputs", _WHOLE), ("activation", _WHOLE),
    )  # fmt: skip


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, _Norm) for name in ("before_attention", "of_queries", "of_keys", "before_block")),
        *((name, _Product) for name in ("queries", "keys", "values", "output", "gated", "down")),
        *(("window", _WHOLE), ("scaling", _REAL), ("softcap", _REAL)),
    )


class _Step(ctypes.Structure):
    _fields_ = (
        *((name, _WHOLE) for name in ("is_bf16", "rows", "heads", "groups", "dim")),
        *((name, _POINTER) for name in ("cosine", "sine", "cached_keys", "cached_values")),
        ("capacity", _WHOLE),
        *((name, _POINTER) for name in ("lengths", "common")),
        *((name, _WHOLE) for name in ("width", "held")),
        ("hidden", _POINTER),
        ("room", _POINTER * 4),
        *(("lse", _POINTER), ("threads", _WHOLE)),
    )


@dataclass(frozen=True, slots=True)
class NormParts:
    """A root-mean-square norm: see :meth:`dasd_bench.engine.kernels.rows.RowKernels.rms_norm`."""

    weight: Tensor
    eps: float
    plus: float
    late: bool


@dataclass(frozen=True, slots=True)
class LayerParts:
    """A decoder layer of Llama's form. ``of_queries`` and ``of_keys`` are norms over each head, None without them."""

    before_attention: NormParts
    of_queries: NormParts | None
    of_keys: NormParts | None
    before_block: NormParts
    queries: Panels
    keys: Panels
    values: Panels
    output: Panels
    gated: Panels
    activation: Activation
    down: Panels
    how: Scale


class LayersKernel:
    """All layers of a model, called by :meth:`__call__` for one decoding step."""

    def __init__(self, libraries: Sequence[ctypes.CDLL], layers: Sequence[LayerParts], heads: int, dim: int) -> None:
        own, products, row_kernels, attention = libraries
        names = (products.dasd_linear, row_kernels.dasd_rms_norm, row_kernels.dasd_rotate)
        pointers = [ctypes.cast(one, _POINTER).value for one in (*names, attention.dasd_decode_attention)]
        works = (linear.ONE_THREAD, rows.ONE_THREAD, rows.ONE_THREAD, decode.ONE_THREAD)
        self._with = _Kernels(*pointers, *works)
        self._parts = layers  # what the pointers point to
        self._layers = (_Layer * len(layers))(*(_layer(one) for one in layers))
        self._heads, self._dim = heads, dim
        self._groups = layers[0].keys.outputs // dim
        self._widest = max(
            max(p.outputs, p.inputs) for one in layers for p in (one.queries, one.output, one.gated, one.down)
        )
        self._widest = max(self._widest, 2 * layers[0].keys.outputs)
        self._room = torch.empty(0)
        self._call = own.dasd_layers
        self._call.argtypes = [ctypes.POINTER(_Kernels), ctypes.POINTER(_Layer), _WHOLE, ctypes.POINTER(_Step)]
        self._call.restype = None

    def __call__(
        self,
        hidden: Tensor,
        cosine: Tensor,
        sine: Tensor,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        lengths: Tensor,
        common: Tensor,
        width: int,
    ) -> Tensor:
        """Hidden states [B, width of the model] after the layers, from ``hidden`` before them, float32 or bfloat16.

        ``cosine`` and ``sine`` [B, D] are of the rows' positions; the cache and what follows are as in
        :meth:`dasd_bench.engine.kernels.decode.DecodeKernel.__call__`, ``keys`` and ``values`` by layer.
        """
        count = hidden.shape[0]
        out = hidden.clone(memory_format=torch.contiguous_format)
        cosine, sine = cosine.contiguous(), sine.contiguous()
        size = count * self._widest
        if self._room.numel() < 4 * size or self._room.dtype != out.dtype:
            self._room = torch.empty(4 * size, dtype=out.dtype)
        lse = torch.empty(count * self._heads)
        bases = [self._room.data_ptr() + number * size * out.itemsize for number in range(4)]
        addresses = [(_POINTER * len(cached))(*(one.data_ptr() for one in cached)) for cached in (keys, values)]
        step = _Step(
            int(out.dtype == torch.bfloat16), count, self._heads, self._groups, self._dim,
            cosine.data_ptr(), sine.data_ptr(), *(ctypes.addressof(one) for one in addresses), keys[0].shape[2],
            lengths.data_ptr(), common.data_ptr(), width, int(lengths.sum()), out.data_ptr(),
            (_POINTER * 4)(*bases), lse.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        self._call(self._with, self._layers, len(self._layers), step)
        return out


def _norm(parts: NormParts | None) -> _Norm:
    if parts is None:
        return _Norm(None, 0, 0.0, 0.0, 0)
    return _Norm(parts.weight.data_ptr(), parts.weight.numel(), parts.eps, parts.plus, int(parts.late))


def _product(panels: Panels, activation: Activation | None = None) -> _Product:
    bias = None if panels.bias is None else panels.bias.data_ptr()
    return _Product(panels.weights.data_ptr(), bias, panels.inputs, panels.outputs, activation or 0)


def _layer(parts: LayerParts) -> _Layer:
    return _Layer(
        *map(_norm, (parts.before_attention, parts.of_queries, parts.of_keys, parts.before_block)),
        *map(_product, (parts.queries, parts.keys, parts.values, parts.output)),
        _product(parts.gated, parts.activation),
        _product(parts.down),
        parts.how.window or 0,
        parts.how.scaling,
        parts.how.softcap or 0.0,
    )


def load_layers_kernel(layers: Sequence[LayerParts], heads: int, dim: int, dtype: torch.dtype) -> LayersKernel | None:
    """The kernel over these layers, or None where it cannot be built."""
    cpu = torch.device("cpu")
    found = [load(name, cpu, dtype) for name in ("layers", "linear", "rows")] + [load("decode", cpu, dtype, dim)]
    libraries = [one for one in found if one is not None]
    return LayersKernel(libraries, layers, heads, dim) if len(libraries) == len(found) else None
