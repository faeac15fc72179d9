"""The processes that train one model together: who they are, and the few things they tell each other.

One process alone is the same code with nothing to tell. Several speak over torch.distributed (gloo between CPUs, NCCL
between GPUs) and are started by ``dasd_bench.training.launch``, with the environment variables that torchrun sets.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

BUCKET_ELEMENTS = 1 << 24
"""Gradients summed in one message: 64 MiB of float32 buffer at most, or one tensor that is larger."""

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: the first one also writes checkpoints."""


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among ``size``: ``rank`` 0 writes files and speaks to the user."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def alone(self) -> bool:
        """True for a single process, which never communicates."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """True for the process that writes."""
        return self.rank == 0

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """The ``values`` of every process, in rank order, the same on all of them (float64)."""
        if self.alone:
            return [list(values)]
        own = torch.tensor(values, dtype=torch.float64, device=self.device)
        every = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(every, own)
        return [part.tolist() for part in every]

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes, bit for bit the same on all of them."""
        if self.alone:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([t.reshape(-1) for t in bucket])
            dist.all_reduce(flat)
            for tensor, part in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def agree(self, value: T) -> T:
        """The first process's ``value`` (any plain object), on every process."""
        if self.alone:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        result: T = box[0]
        return result

    def first_of(self, values: Sequence[T]) -> tuple[T, ...]:
        """The ``values`` of the first process that has any."""
        if self.alone:
            return tuple(values)
        return next((found for found in self.gather_objects(tuple(values)) if found), ())

    def gather_objects(self, value: T) -> list[T]:
        """Every process's ``value`` (any plain object), in rank order, on all of them."""
        if self.alone:
            return [value]
        every: list[Any] = [None] * self.size
        dist.all_gather_object(every, value)
        return every

    def wait(self) -> None:
        """Returns when every process has come here."""
        if not self.alone:
            self.gather([0.0])


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Runs of tensors of one dtype, each at most a bucket long."""
    bucket: list[Tensor] = []
    filled = 0
    for tensor in tensors:
        if bucket and (filled + tensor.numel() > BUCKET_ELEMENTS or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, filled = [], 0
        bucket.append(tensor)
        filled += tensor.numel()
    if bucket:
        yield bucket


@contextlib.contextmanager
def joined(device_type: str) -> Iterator[Processes]:
    """Joins the processes that the launcher's environment variables name, for as long as the block runs."""
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cpu")
    if device_type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if size == 1:
        yield Processes(device=device)
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Processes(rank, size, device)
    finally:
        dist.destroy_process_group()
