"""Decoding steps of fixed shape: the number of rows and of keys is rounded up, so that a GPU can replay them as graphs.

A decoding step of a small model is hundreds of short kernels; launching them from Python costs more than running them.
On CUDA each shape is captured once as a CUDA graph and replayed. Elsewhere the same steps run as they are, which is
how they are tested; there the packed path of :mod:`dasd_bench.engine.attention_metadata` is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dasd_bench.engine.attention import Scale, attend
from dasd_bench.engine.kv_cache import KVCache
from dasd_bench.engine.model_runner import ModelRunner

ROW_STEP = 256
"""Beyond this many rows, the number of rows is a multiple of it; below, a power of two."""

KEY_STEP = 256
"""The number of keys is a multiple of this."""


def row_shape(rows: int) -> int:
    """The smallest computed number of rows that holds ``rows``."""
    return 1 << (rows - 1).bit_length() if rows <= ROW_STEP else -(-rows // ROW_STEP) * ROW_STEP


def key_shape(keys: int) -> int:
    """The smallest computed number of keys that holds ``keys``: coarser the longer."""
    step = KEY_STEP if keys <= 4 * KEY_STEP else 4 * KEY_STEP
    return -(-keys // step) * step


class FixedShapeMetadata:
    """One new token for each of ``lengths.numel()`` rows, whatever ``lengths`` [B] hold, among the first ``keys`` keys.

    Nothing here depends on a value on the device: the same kernels run at every step.
    """

    def __init__(self, cache: KVCache, lengths: Tensor, keys: int) -> None:
        self._cache = cache
        self._lengths = lengths
        self._keys = keys
        self._range = torch.arange(lengths.numel(), device=lengths.device)
        self._keys_at = torch.arange(keys, device=lengths.device)
        self._masks: dict[int | None, Tensor] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, how: Scale) -> Tensor:
        """See :class:`dasd_bench.engine.attention.AttentionMetadata`."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        count, groups, dim = self._lengths.numel(), keys.shape[1], query.shape[2]
        keys[self._range, :, self._lengths] = key.transpose(0, 1)
        values[self._range, :, self._lengths] = value.transpose(0, 1)
        # The queries of one key-value head side by side, as if they were positions.
        folded = query.transpose(0, 1).reshape(count, groups, query.shape[0] // groups, dim)
        window = how.window if how.window is not None and how.window < self._keys else None
        seen = keys[:count, :, : self._keys], values[:count, :, : self._keys]
        mask = self._mask(window, query.dtype)
        if how.softcap is None:
            out = torch.nn.functional.scaled_dot_product_attention(folded, *seen, attn_mask=mask, scale=how.scaling)
        else:
            out, _ = attend(folded, *seen, how, mask)
        return out.reshape(count, -1, dim)

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        if window not in self._masks:
            at = self._lengths.unsqueeze(1)
            hidden = self._keys_at > at
            if window is not None:
                hidden |= at - self._keys_at >= window
            mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            self._masks[window] = mask.masked_fill_(hidden, float("-inf"))[:, None, None, :]
        return self._masks[window]


@dataclass(slots=True)
class _Captured:
    """A shape that is ready: ``graph`` None runs the kernels one by one."""

    graph: torch.cuda.CUDAGraph | None
    hidden: Tensor | None


class FixedShapeSteps:
    """Advances rows by one token each through captured shapes; it owns the rows, whose capacity never changes."""

    def __init__(self, runner: ModelRunner, count: int, capacity: int) -> None:
        self._runner = runner
        self.count = row_shape(count)
        self.cache = KVCache(runner, self.count, capacity, padded=True)
        self._inputs = torch.zeros(2, self.count, dtype=torch.int64, device=runner.device)
        cuda = runner.device.type == "cuda"
        self._staging = torch.zeros(self._inputs.shape, dtype=torch.int64, pin_memory=cuda)
        self._shapes: dict[tuple[int, int], _Captured] = {}
        self._pool = torch.cuda.graph_pool_handle() if cuda else None
        self.graphs = cuda

    def fits(self, count: int, capacity: int) -> bool:
        """True where ``count`` rows of ``capacity`` tokens have room here."""
        return count <= self.count and capacity <= self.cache.capacity

    @property
    def bytes(self) -> int:
        """What the rows hold."""
        return self.count * self.cache.capacity * self._runner.token_bytes

    def step(self, tokens: Sequence[int], lengths: Sequence[int]) -> Tensor:
        """Hidden states [n, d] of one ``tokens[i]`` after the ``lengths[i]`` tokens that row i holds.

        On CUDA the result is overwritten by the next step of the same shape.
        """
        live = len(tokens)
        count = row_shape(live)
        keys = min(key_shape(max(lengths) + 1), self.cache.capacity)
        # KVCache beyond the live ones compute on what lies there; position 0 of an unused row takes their keys.
        self._staging[:, live:count] = 0
        self._staging[0, :live] = torch.tensor(tokens)
        self._staging[1, :live] = torch.tensor(lengths)
        self._inputs[:, :count].copy_(self._staging[:, :count], non_blocking=True)
        shape = count, keys
        if shape not in self._shapes:
            self._shapes[shape] = self._capture(count, keys)
        ready = self._shapes[shape]
        if ready.graph is None:
            return self._forward(count, keys)[:live]
        ready.graph.replay()
        assert ready.hidden is not None
        return ready.hidden[:live]

    def _forward(self, count: int, keys: int) -> Tensor:
        lengths = self._inputs[1, :count]
        metadata = FixedShapeMetadata(self.cache, lengths, keys)
        return self._runner.hidden(self._inputs[0, :count], lengths, metadata)

    def _capture(self, count: int, keys: int) -> _Captured:
        if not self.graphs:
            return _Captured(None, None)
        # A first run outside the graph: libraries set themselves up. What it writes, the captured run writes again.
        side = torch.cuda.Stream(self._runner.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self._runner.device))
        with torch.cuda.stream(side):
            self._forward(count, keys)
        torch.cuda.current_stream(self._runner.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                hidden = self._forward(count, keys)
        except RuntimeError as error:
            if "captur" not in str(error).lower():
                raise
            # A model that asks the device for a value in mid-pass (some rotary scalings do) cannot be captured.
            torch.cuda.synchronize(self._runner.device)
            self.graphs = False
            return _Captured(None, None)
        return _Captured(graph, hidden)


class FixedShapePool:
    """Keeps one :class:`FixedShapeSteps` between calls, so that shapes are captured once per engine."""

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner
        self._steps: FixedShapeSteps | None = None

    def steps(self, count: int, capacity: int) -> FixedShapeSteps:
        """Steps for at least ``count`` rows of ``capacity`` tokens; larger ones take the place of smaller ones."""
        if self._steps is None or not self._steps.fits(count, capacity):
            before = self._steps
            self._steps = None  # freed before the new rows are made
            if before is not None:
                count, capacity = max(count, before.count), max(capacity, before.cache.capacity)
            del before
            self._steps = FixedShapeSteps(self._runner, count, capacity)
        return self._steps

    def clear(self) -> None:
        """Gives the memory back."""
        self._steps = None

    @property
    def bytes(self) -> int:
        """Memory held for keys and values."""
        return 0 if self._steps is None else self._steps.bytes

    @property
    def graphs(self) -> bool:
        """True unless a capture failed, or where there is no CUDA."""
        return self._runner.device.type == "cuda" and (self._steps is None or self._steps.graphs)
