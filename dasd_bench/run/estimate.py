"""What a stage's work takes on this device: seconds, memory, disk, and what to change where it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from dasd_bench.errors import DasdError
from dasd_bench.resources.fit import (
    check_engine,
    check_training,
    fit_training,
)
from dasd_bench.resources.needs import EngineLoad, TrainingLoad, engine_need, lora_parameters
from dasd_bench.resources.shapes import ModelShape
from dasd_bench.resources.work import Speed, Work, compute_seconds, load_seconds, measure_speed

TARGET_BYTES = 40
"""Bytes on disk of one token of a target with its scores and weights, in the store and in the run directory."""

ANSWER_BYTES = 10
"""Bytes on disk of one token that is written in evaluation."""

CHECKPOINT_BYTES = 12
"""Bytes on disk of one trained value in a checkpoint: itself and the two moments of AdamW."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """``seconds`` of work, ``memory_bytes`` of the process at its peak, ``disk_bytes``; ``advice`` is a sentence where
    it does not fit, ``changes`` what training does to fit."""

    seconds: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0
    advice: str = ""
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Estimator:
    """One model on one device: ``free`` bytes are available, ``device`` and ``dtype`` are torch's names.

    ``assumed`` is the throughput of a device that is not on this machine.
    """

    shape: ModelShape
    dtype: str
    device: str
    free: int
    max_num_seqs: int
    assumed: Speed | None = None

    @property
    def itemsize(self) -> int:
        """Bytes of a weight."""
        return 2 if self.dtype == "bf16" else 4

    @property
    def packs(self) -> bool:
        """True where weights get packed copies."""
        return self.device.startswith("cpu")

    @cached_property
    def speed(self) -> Speed:
        """The device's throughput, measured when first asked for unless it is assumed."""
        if self.assumed is not None:
            return self.assumed
        import torch

        return measure_speed(torch.bfloat16 if self.dtype == "bf16" else torch.float32, torch.device(self.device))

    def load_seconds(self) -> float:
        """Reading the weights once."""
        return load_seconds(self.shape, self.itemsize)

    def seconds(self, work: Work) -> float:
        """The work itself, the model being in memory."""
        if work.config is not None:
            fit, _ = fit_training(self.shape, self._training(work), self.itemsize, self.free, packs=self.packs)
            work = replace(work, config=fit.applied(work.config))
        return compute_seconds(work, self.shape, self.itemsize, self.speed, self.max_num_seqs)

    def estimate(self, work: Work, what: str) -> Estimate:
        """All of it but the seconds."""
        if work.kind == "none":
            return Estimate()
        if work.config is not None:
            return self._train(work)
        load = EngineLoad(min(work.sequences, self.max_num_seqs), work.longest, work.longest_new, work.contexts)
        need = engine_need(self.shape, load, self.itemsize, self.free, packs=self.packs)
        disk = work.new * (TARGET_BYTES if work.kind == "score" else ANSWER_BYTES)
        advice = _said(lambda: check_engine(self.shape, load, self.itemsize, self.free, what))
        return Estimate(memory_bytes=need.total, disk_bytes=disk, advice=advice)

    def _train(self, work: Work) -> Estimate:
        assert work.config is not None
        config, load = work.config, self._training(work)
        fit, need = fit_training(self.shape, load, self.itemsize, self.free, packs=self.packs)
        trained = lora_parameters(self.shape, config) if config.lora_rank else self.shape.parameters
        kept = config.keep_checkpoints + 1 if config.checkpoint_steps else 0
        return Estimate(
            memory_bytes=need.total,
            disk_bytes=trained * (4 + CHECKPOINT_BYTES * kept),
            advice=_said(lambda: check_training(self.shape, load, self.itemsize, self.free, packs=self.packs)),
            changes=tuple(fit.changes(config, packs=self.packs)),
        )

    def _training(self, work: Work) -> TrainingLoad:
        assert work.config is not None
        batch = work.config.batch_size * work.longest
        return TrainingLoad(work.config, longest=max(1, work.longest), batch_tokens=max(1, batch))


def _said(check: Callable[[], object]) -> str:
    try:
        check()
    except DasdError as error:
        return str(error)
    return ""
