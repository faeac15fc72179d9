"""Making a stage fit into the memory there is, or saying in one sentence why it does not."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from dasd_bench.config.training import TrainingConfig
from dasd_bench.errors import ModelError, TrainingError
from dasd_bench.resources.needs import EngineLoad, Need, TrainingLoad, engine_minimum, training_need
from dasd_bench.resources.shapes import ModelShape

SMALLEST_PACK = 256
"""Tokens of a pack below which cutting further saves little and costs much."""

RESERVE = 0.93
"""The share of the available memory that is planned with; the rest is for the system and for what is not counted."""


@dataclass(frozen=True, slots=True)
class TrainingFit:
    """How training was made to fit: ``packed`` weights or not, gradient ``checkpointing`` or not, tokens of a pack.

    None of them changes the loss beyond rounding.
    """

    packed: bool
    checkpointing: bool
    microbatch: int

    def applied(self, config: TrainingConfig) -> TrainingConfig:
        """``config`` with what was chosen here."""
        return replace(config, gradient_checkpointing=self.checkpointing, microbatch_tokens=self.microbatch)

    def changes(self, config: TrainingConfig, *, packs: bool) -> list[str]:
        """What differs from the settings, in words; empty where training runs as asked. ``packs``: weights could be."""
        changes = ["unpacked weights (slower)"] if packs and not self.packed else []
        if self.checkpointing and not config.gradient_checkpointing:
            changes.append("gradient checkpointing (slower)")
        if self.microbatch < config.microbatch_tokens:
            changes.append(f"packs of {self.microbatch} tokens")
        return changes


def need_of_fit(shape: ModelShape, load: TrainingLoad, itemsize: int, fit: TrainingFit) -> Need:
    """What training takes as ``fit`` has it."""
    return training_need(
        shape, load, itemsize, packed=fit.packed, checkpointing=fit.checkpointing, microbatch=fit.microbatch
    )


def fit_training(
    shape: ModelShape, load: TrainingLoad, itemsize: int, free: int, *, packs: bool
) -> tuple[TrainingFit, Need]:
    """The fastest way to train that fits into ``free`` bytes, and what it takes; the most frugal where none does.

    ``packs`` is True where weights can be packed. Tried in order: as asked, smaller packs, checkpointing, both; then
    the same on unpacked weights.
    """
    config = load.config
    pack = config.microbatch_tokens
    small = max(min(pack, load.longest, 1024), min(pack, SMALLEST_PACK))
    shapes = [
        (config.gradient_checkpointing, pack),
        (config.gradient_checkpointing, small),
        (True, pack),
        (True, small),
    ]
    tried = [
        TrainingFit(packed, checkpointing, microbatch)
        for packed in ((True, False) if packs else (False,))
        for checkpointing, microbatch in shapes
    ]
    for fit in tried:
        need = need_of_fit(shape, load, itemsize, fit)
        if fits(need, free):
            break
    return fit, need


def fits(need: Need, free: int) -> bool:
    """Whether what must still be allocated fits into ``free`` bytes, with a reserve."""
    return need.to_allocate <= free * RESERVE


def check_training(shape: ModelShape, load: TrainingLoad, itemsize: int, free: int, *, packs: bool) -> TrainingFit:
    """How to train within ``free`` bytes. Raises :class:`TrainingError` where that is not possible."""
    fit, need = fit_training(shape, load, itemsize, free, packs=packs)
    if not fits(need, free):
        raise TrainingError(too_little("Training", need, free, training_advice(load, itemsize, need, free)))
    return fit


def training_advice(load: TrainingLoad, itemsize: int, need: Need, free: int) -> str:
    """What to change where even the most frugal training does not fit."""
    advice = ["--dtype bf16"] if itemsize > 2 and load.config.lora_rank else []
    if load.config.lora_rank == 0:
        advice.append("LoRA (training.lora_rank)")
    if need.weights + need.trained < free * RESERVE:
        advice.append(f"training.max_length below {load.longest}")
    return ", ".join([*advice, "a smaller model or a machine with more memory"])


def check_engine(shape: ModelShape, load: EngineLoad, itemsize: int, free: int, what: str) -> None:
    """Raises :class:`ModelError` where the engine cannot work within ``free`` bytes even one sequence at a time."""
    need = engine_minimum(shape, load, itemsize)
    if not fits(need, free):
        raise ModelError(too_little(what, need, free, engine_advice(itemsize)))


def engine_advice(itemsize: int) -> str:
    """What to change where the engine has too little memory."""
    return f"{'--dtype bf16, ' if itemsize > 2 else ''}a smaller model or a machine with more memory"


def too_little(what: str, need: Need, free: int, advice: str) -> str:
    """The sentence: what it needs, what there is, what to change."""
    parts = {name: size for name, size in asdict(need).items() if name != "process" and size >= need.to_allocate / 50}
    listed = ", ".join(f"{name.replace('_', ' ')} {gib(size)}" for name, size in parts.items())
    return f"{what} needs {gib(need.to_allocate)} of memory ({listed}) and {gib(free)} is available; use {advice}."


def gib(size: float) -> str:
    """``16106127360`` as ``15.0 GiB``; in MiB below 1 GiB."""
    if size >= 2**30:
        return f"{size / 2**30:.1f} GiB"
    return f"{size / 2**20:.0f} MiB" if size >= 10 * 2**20 else f"{size / 2**20:.2f} MiB"
