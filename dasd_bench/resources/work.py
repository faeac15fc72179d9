"""How much a stage computes, and how long that takes on a device: arithmetic against throughput, not past guesses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dasd_bench.config.training import TrainingConfig
from dasd_bench.resources.shapes import ModelShape

if TYPE_CHECKING:
    import torch

EFFICIENCY = 0.5
"""The share of a large matrix product's throughput that a model reaches: attention, norms and short batches cost."""

DISK_BYTES = 1e9
"""Bytes per second assumed for reading weights."""

STAGE_SECONDS = 0.5
"""Assumed for what a stage does besides: tokenizing, grading, writing."""

START_SECONDS = 4.0
"""Assumed for starting the engine or the trainer on a model that was just read."""

PREFILL = 2048
"""Prompt tokens of one forward pass."""

MATRIX = 1024
PROBE_SECONDS = 0.1
PROBE_CALLS = 10
PROBE_MOST = 1.0
"""Seconds in which a busy machine may still be making :data:`PROBE_CALLS`."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage does: ``read`` tokens go through the model, ``new`` ones are written (or, when scoring, predicted).

    ``sequences`` is how many, ``longest`` the most tokens that one of them reads and ``longest_new`` the most it
    writes. ``kind`` is ``none`` for a stage without a model. Training reads every token once an epoch: ``read`` counts
    all of them, ``config`` and ``steps`` say how.
    """

    kind: Literal["none", "score", "generate", "train"] = "none"
    read: int = 0
    new: int = 0
    sequences: int = 0
    longest: int = 0
    longest_new: int = 0
    contexts: int = 1
    config: TrainingConfig | None = None
    steps: int = 0

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.read + self.new


@dataclass(frozen=True, slots=True)
class Speed:
    """A device's throughput in one dtype: ``flops`` per second of a large product, ``bandwidth`` in bytes a second.

    Measured on this machine, or as published for the GPU ``assumed``.
    """

    flops: float
    bandwidth: float
    assumed: str = ""

    def sentence(self) -> str:
        """What the estimates assume, for the reader."""
        source = f"published for the GPU {self.assumed}" if self.assumed else "measured here"
        bound = " Nothing was measured, so take the times as a lower bound." if self.assumed else ""
        return (
            f"Times assume {EFFICIENCY:.0%} of the {self.flops / 1e9:,.0f} GFLOP/s and all of the "
            f"{self.bandwidth / 1e9:,.0f} GB/s {source}, and weights read at {DISK_BYTES / 1e9:g} GB/s.{bound}"
        )


def measure_speed(dtype: torch.dtype, device: torch.device) -> Speed:
    """The device's throughput when nothing else runs on it, from less than a second of work."""
    import torch

    from dasd_bench.engine.linears import PackedLinear, can_pack

    left = torch.ones(MATRIX, MATRIX, dtype=dtype, device=device)
    plain = torch.nn.Linear(MATRIX, MATRIX, bias=False, dtype=dtype, device=device)
    # What the engine and the trainer multiply with where they can.
    linear = PackedLinear(plain) if can_pack(plain.weight) else plain
    rows = torch.ones(1 << 26, dtype=torch.uint8, device=device)
    total = torch.empty_like(rows)
    with torch.inference_mode():
        flops = 2.0 * MATRIX**3 * _per_second(lambda: linear(left), device)
        # A copy reads and writes every byte.
        bandwidth = 2.0 * rows.numel() * _per_second(lambda: total.copy_(rows), device)
    return Speed(flops, bandwidth)


def _per_second(call: Callable[[], object], device: torch.device) -> float:
    import torch

    def once() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    once()
    threads = torch.get_num_threads() if device.type == "cpu" else 0
    started, fastest, calls = time.perf_counter(), math.inf, 0
    while (spent := time.perf_counter() - started) < PROBE_SECONDS or (calls < PROBE_CALLS and spent < PROBE_MOST):
        began, cpu = time.perf_counter(), time.process_time()
        once()
        # On a CPU that others use too the threads wait for their turn, which their CPU time leaves out.
        own = (time.process_time() - cpu) / threads if threads else math.inf
        wall = time.perf_counter() - began
        fastest = min(fastest, own if wall > 1.5 * own > 0 else wall)
        calls += 1
    # The fastest, for what else runs on the machine only adds to it.
    return 1.0 / fastest


def load_seconds(shape: ModelShape, itemsize: int) -> float:
    """Reading the weights from disk and starting the engine or the trainer on them."""
    return START_SECONDS + shape.parameters * itemsize / DISK_BYTES


def compute_seconds(work: Work, shape: ModelShape, itemsize: int, speed: Speed, max_num_seqs: int) -> float:
    """Time of a stage's work with the model in memory: the longer of its arithmetic and of reading the weights."""
    if work.kind == "none":
        return 0.0
    weights = shape.parameters * itemsize / speed.bandwidth
    body = 2.0 * shape.linear + 2.0 * shape.layers * shape.heads * shape.head_dim * (work.longest + work.longest_new)
    head = 2.0 * shape.head
    rate = speed.flops * EFFICIENCY
    if work.kind == "train":
        assert work.config is not None
        # Forward, and backward to the inputs; to the weights only where they are trained; forward again where
        # activations are recomputed.
        passes = 2 + (work.config.lora_rank == 0) + work.config.gradient_checkpointing
        packs = max(work.steps, math.ceil(work.read / work.config.microbatch_tokens))
        return STAGE_SECONDS + max(work.read * passes * (body + head) / rate, packs * passes * weights)
    seconds = max(work.read * body / rate, math.ceil(work.read / PREFILL) * weights)
    if work.kind == "score":
        return STAGE_SECONDS + seconds + work.new * head / rate
    batches = math.ceil(work.sequences / max(1, max_num_seqs))
    steps = batches * math.ceil(work.new / max(1, work.sequences))
    return STAGE_SECONDS + seconds + max(work.new * work.contexts * (body + head) / rate, steps * weights)
