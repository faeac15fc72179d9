"""Training one adapter with an arm's settings: the train stage's work, and that of rounds inside a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dasd_bench.config.spec import ArmSpec
from dasd_bench.methods import plugin_calls
from dasd_bench.results.schema import TrainStats
from dasd_bench.run.context import RunContext
from dasd_bench.run.memory import FIT_FILE, fit_adapter
from dasd_bench.run.prompts import Prompts
from dasd_bench.store.store import Row
from dasd_bench.training.batching import held_out
from dasd_bench.types import Example, Floats, Message, Target, TrainExample, TrainingSet, target_names

if TYPE_CHECKING:
    from dasd_bench.training.pace import TokenBudget

POINTS = "points"
"""The folder of the adapters saved during training."""


def held_out_ids(arm: ArmSpec, seed: int, examples: Sequence[Example]) -> frozenset[str]:
    """Ids of the examples that early stopping holds out; empty where it is off.

    ``examples`` are all that the run trains on, so every arm of a seed holds out the same ones, whatever it drops.
    """
    if not arm.training.early_stop_patience:
        return frozenset()
    return frozenset(examples[i].id for i in held_out(len(examples), arm.training.held_out, seed))


def references(run: RunContext, examples: Sequence[Example], held: frozenset[str]) -> list[TrainExample]:
    """The reference answers of the held-out examples, each token with weight 1."""
    prompts = Prompts(run)
    found = []
    for example in (one for one in examples if one.id in held):
        ids = np.array(prompts.reference_ids(example), dtype=np.int32)
        found.append(
            TrainExample(
                example_id=example.id,
                prompt_ids=np.array(prompts.ids(example), dtype=np.int32),
                target_ids=ids,
                weights=np.ones(len(ids), dtype=np.float32),
                keep=np.zeros(len(ids), dtype=np.bool_),
            )
        )
    return found


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
    data: TrainingSet,
    out_dir: Path,
    budget: TokenBudget | None = None,
    init: Path | None = None,
) -> Row:
    """Trains into ``out_dir`` (``adapter/``, ``metrics.jsonl``, ``points/``) and gives what the entry keeps of it.

    Training begins with the base, or with what was trained into the folder ``init`` by the same settings.
    """
    import torch

    from dasd_bench.training.distributed import Processes
    from dasd_bench.training.job import TrainJob, do_job
    from dasd_bench.training.launch import launch

    run.release()
    out_dir.mkdir(parents=True, exist_ok=True)
    fit = fit_adapter(run, arm, seed, data.examples, out_dir)
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
        budget=budget,
        fit=fit,
    )
    if run.processes > 1:
        result = launch(job, data, run.processes, run.console)
    else:
        result = do_job(job, data, Processes(device=torch.device(run.device)), run.console, weighing.method)
    (out_dir / FIT_FILE).unlink(missing_ok=True)
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
        budget_tokens=None if budget is None else budget.total,
        missed_tokens=result.missed,
        best_step=result.best_step,
        best_held_out_nll=result.best_loss,
    )
    return {
        "stats": asdict(stats),
        "skipped": list(result.skipped),
        "truncated": list(result.truncated),
        "held_out": list(result.held_out),
        "points": [asdict(point) for point in result.points],
    }
