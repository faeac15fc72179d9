"""Training one adapter with an arm's settings: the train stage's work, and that of rounds inside a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dasd_bench.config.spec import ArmSpec
from dasd_bench.methods import plugin_calls
from dasd_bench.results.schema import TrainStats
from dasd_bench.run.context import RunContext
from dasd_bench.run.prompts import Prompts
from dasd_bench.store.store import Row
from dasd_bench.types import Example, Floats, Message, Target, TrainExample, target_names


def train_examples(
    run: RunContext,
    arm: ArmSpec,
    targets: Sequence[Target],
    examples: Sequence[Example],
    weights: Sequence[Floats],
    teacher_prompts: Sequence[Sequence[Sequence[Message]]],
) -> list[TrainExample]:
    """Targets, each with its example, its weights float32 [T] and its teachers' prompts, as the trainer takes them."""
    prompts, names = Prompts(run), target_names(targets)
    # The trainer wants the same columns of every target.
    shared = set.intersection(*(set(target.columns) for target in targets)) if targets else set()
    return [
        TrainExample(
            example_id=name,
            prompt_ids=np.array(prompts.target_ids(target, example), dtype=np.int32),
            target_ids=target.token_ids,
            weights=own,
            keep=plugin_calls.keeps(arm.weighing.method, target),
            columns={name: target.columns[name] for name in sorted(shared)},
            teacher_prompts=tuple(np.array(run.teacher_chat.encode(chat), dtype=np.int32) for chat in chats),
        )
        for name, target, example, own, chats in zip(names, targets, examples, weights, teacher_prompts, strict=True)
    ]


def train_adapter(
    run: RunContext,
    arm: ArmSpec,
    seed: int,
    examples: Sequence[TrainExample],
    out_dir: Path,
    init: Path | None = None,
) -> Row:
    """Trains into ``out_dir`` (``adapter/`` and ``metrics.jsonl``) and gives what the entry keeps of it.

    Training begins with the base, or with what was trained into the folder ``init`` by the same settings.
    """
    import torch

    from dasd_bench.training.distributed import Processes
    from dasd_bench.training.job import TrainJob, do_job
    from dasd_bench.training.launch import launch

    run.release()
    weighing = arm.weighing
    whole = init is not None and arm.training.lora_rank == 0
    job = TrainJob(
        model=str(init if whole else run.weights),
        dtype=run.dtype,
        device=run.device,
        method=weighing.plugin.name,
        options=asdict(weighing.method),
        plugins=tuple(str(Path(folder).expanduser().resolve()) for folder in run.spec.plugins),
        training=arm.training,
        seed=seed,
        out_dir=str(out_dir.resolve()),
        base_model_name=run.spec.model,
        sharded=run.parallel == "fsdp",
        stop_ids=tuple(sorted(run.stop_ids)),
        init="" if init is None or whole else str(init),
    )
    if run.processes > 1:
        result = launch(job, examples, run.processes, run.console)
    else:
        result = do_job(job, examples, Processes(device=torch.device(run.device)), run.console, weighing.method)
    stats = TrainStats(
        steps=result.steps,
        target_tokens=result.target_tokens,
        kept_tokens=round(result.kept_tokens),
        seconds=result.seconds,
        final_loss=result.final_loss,
        peak_memory_gib=result.peak_memory_gib,
        nll=result.nll,
        clipped_steps=result.clipped_steps,
        generated_tokens=result.generated_tokens,
    )
    return {
        "stats": asdict(stats),
        "skipped": list(result.skipped),
        "truncated": list(result.truncated),
        "held_out": list(result.held_out),
        "best_step": result.best_step,
        "best_loss": result.best_loss,
    }
