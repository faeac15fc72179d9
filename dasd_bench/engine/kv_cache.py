"""The KV cache: one row per decoding context, and prefixes that many rows share by reference."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from dasd_bench.engine.model_runner import ModelRunner

MULTIPLE = 128
"""Row capacity is a multiple of this many tokens."""


class Prefix:
    """Keys and values of a run of tokens from position 0, all layers: ``keys[layer]`` [Hkv, length, D]."""

    def __init__(self, runner: ModelRunner, capacity: int) -> None:
        shape = (runner.key_heads, capacity, runner.head_dim)
        make = partial(torch.empty, shape, dtype=runner.dtype, device=runner.device)
        self._keys: list[Tensor] = [make() for _ in range(runner.layers)]
        self._values: list[Tensor] = [make() for _ in range(runner.layers)]
        self.length = 0
        self.bytes = capacity * runner.token_bytes

    def keys(self, layer: int) -> Tensor:
        """Keys [Hkv, length, D] of one layer."""
        return self._keys[layer][:, : self.length]

    def values(self, layer: int) -> Tensor:
        """Values [Hkv, length, D] of one layer."""
        return self._values[layer][:, : self.length]

    def write(self, layer: int, offset: int, key: Tensor, value: Tensor) -> None:
        """Stores ``key`` and ``value`` [Hkv, n, D] of one layer from position ``offset`` on."""
        end = offset + key.shape[1]
        self._keys[layer][:, offset:end] = key
        self._values[layer][:, offset:end] = value


class KVCache:
    """Keys and values of the rows that decode, rows 0 to ``count`` - 1 in use: per layer [rows, Hkv, capacity, D].

    The room is taken once, for ``tokens`` tokens a row: growing would copy everything onto fresh pages, whose first
    touch costs more than the decoding steps between. What is never written takes no memory on a CPU.
    """

    def __init__(self, runner: ModelRunner, rows: int, tokens: int, padded: bool) -> None:
        self.capacity = -(-tokens // MULTIPLE) * MULTIPLE
        shape = (rows, runner.key_heads, self.capacity, runner.head_dim)
        # Padded attention gives what lies beyond a row's end the weight 0, so it must be a number.
        make = partial(torch.zeros if padded else torch.empty, shape, dtype=runner.dtype, device=runner.device)
        self.keys: list[Tensor] = [make() for _ in range(runner.layers)]
        self.values: list[Tensor] = [make() for _ in range(runner.layers)]

    def write(self, layer: int, row: int, offset: int, key: Tensor, value: Tensor) -> None:
        """Stores ``key`` and ``value`` [Hkv, n, D] of one layer in one row from ``offset`` on."""
        end = offset + key.shape[1]
        self.keys[layer][row, :, offset:end] = key
        self.values[layer][row, :, offset:end] = value

    def move(self, source: int, target: int, start: int, end: int) -> None:
        """Copies tokens ``start`` to ``end`` of one row over another."""
        for tensors in (self.keys, self.values):
            for tensor in tensors:
                tensor[target, :, start:end] = tensor[source, :, start:end]
