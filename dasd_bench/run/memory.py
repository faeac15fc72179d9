"""The memory check before each stage of a run: what it needs against what this process may still take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dasd_bench.config.spec import ArmSpec
from dasd_bench.resources.fit import TrainingFit, check_engine, check_training, fits, gib, need_of_fit
from dasd_bench.resources.needs import EngineLoad, TrainingLoad
from dasd_bench.resources.work import Work
from dasd_bench.run.context import RunContext
from dasd_bench.store.atomic import write_json
from dasd_bench.types import TrainExample

FIT_FILE = ".fit.json"
"""How a training run was made to fit, kept while it works: resumed, it goes on in the same way to the same bytes."""


def available(context: RunContext) -> int:
    """Bytes that one of the run's processes may take on the run's device."""
    import torch

    from dasd_bench.engine.limits import available_bytes

    device = torch.device(context.device)
    free = available_bytes(device)
    return free if device.type == "cuda" else free // context.processes


def packs(context: RunContext) -> bool:
    """True where weights get packed copies: on a CPU."""
    return context.device.startswith("cpu")


def engine_load(work: Work, max_num_seqs: int) -> EngineLoad:
    """What a stage's work asks of the engine."""
    return EngineLoad(min(work.sequences, max_num_seqs), work.longest, work.longest_new, work.contexts)


def check_stage(context: RunContext, work: Work, what: str) -> None:
    """Raises :class:`ModelError` where the engine has too little memory for a stage. Training is checked when its
    examples are known: :func:`fit_adapter`. vLLM does its own accounting."""
    shape = context.shape
    if work.kind in ("none", "train") or shape is None or context.spec.engine.backend == "vllm":
        return
    free = available(context)
    if context.holds_model:
        # The weights are here already, or those here are let go before others are loaded.
        free += shape.parameters * context.itemsize
    check_engine(shape, engine_load(work, context.spec.engine.max_num_seqs), context.itemsize, free, what)


def fit_adapter(
    context: RunContext, arm: ArmSpec, seed: int, examples: Sequence[TrainExample], out_dir: Path
) -> TrainingFit | None:
    """How to train on ``examples`` in the memory there is; None where the model's shape is not known.

    Says what was changed to make it fit. Raises :class:`TrainingError` where nothing does.
    """
    shape = context.shape
    if shape is None:
        return None
    training = arm.training
    most = min(training.max_length or 2**31, context.context_length or 2**31)
    lengths = [min(most, len(one.prompt_ids) + len(one.target_ids)) for one in examples]
    load = TrainingLoad(
        training,
        longest=max(lengths, default=1),
        batch_tokens=sum(sorted(lengths)[-training.batch_size :]),
        teachers=max((len(one.teacher_prompts) for one in examples), default=0),
        shards=context.processes if context.parallel == "fsdp" else 1,
    )
    free = available(context)
    earlier = _read(out_dir / FIT_FILE)
    if earlier is not None and fits(need_of_fit(shape, load, context.itemsize, earlier), free):
        return earlier
    fit = check_training(shape, load, context.itemsize, free, packs=packs(context))
    changes = fit.changes(training, packs=packs(context))
    if changes:
        context.console.notice(
            f"{arm.label} seed {seed}: with {gib(free)} of memory available, training uses {', '.join(changes)}."
        )
    write_json(out_dir / FIT_FILE, asdict(fit))
    return fit


def _read(path: Path) -> TrainingFit | None:
    try:
        return TrainingFit(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none, or one that was cut off
        return None
