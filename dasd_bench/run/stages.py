"""The stages of a run as functions: targets, score, select, train, evaluate, reference nll.

Each takes what the stage before gave, asks the store first, and says whether it was reused.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dasd_bench.config.spec import ArmSpec
from dasd_bench.errors import PluginError, TrainingError
from dasd_bench.results.schema import TrainStats
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import TaskData
from dasd_bench.run.keys import evaluate_key, target_seed
from dasd_bench.run.method_context import StoreLab, score_requests
from dasd_bench.run.sharded import pack, unpack
from dasd_bench.store.store import DiskShards, Entry, Row, load_ragged, read_lines, save_ragged
from dasd_bench.types import Example, Floats, ScoredTarget, Target


def make_targets(
    context: RunContext, arm: ArmSpec, seed: int, examples: Sequence[Example], key: str
) -> tuple[list[Target], bool]:
    """An arm's targets, made by the method or taken from the store."""

    def make(entry: Entry) -> Row:
        lab = StoreLab(context, target_seed(arm, seed))
        before = len(context.console.warnings)
        targets = arm.method.make_targets(examples, lab)
        check_targets(targets, examples, arm)
        save_ragged(entry.path / "targets.safetensors", *pack(targets))
        return {"method": arm.label, "targets": len(targets), "warnings": context.console.warnings[before:]}

    entry, reused = context.store.get_or_make("targets", key, make, context.console.say)
    if reused:
        for warning in entry.meta()["warnings"]:
            context.console.warn(warning)
    return unpack(Target, *load_ragged(entry.path / "targets.safetensors")), reused


def check_targets(targets: Sequence[Target], examples: Sequence[Example], arm: ArmSpec) -> None:
    """Holds a plugin to its contract: known examples, one target each at most, arrays of one length, none empty."""
    known = {example.id for example in examples}
    seen: set[str] = set()
    for target in targets:
        lengths = {len(target.token_ids), len(target.origin), len(target.marks)}
        if target.example_id not in known or target.example_id in seen:
            raise PluginError(f"Method '{arm.label}' gave a second or unknown target for '{target.example_id}'.")
        if len(lengths) != 1 or 0 in lengths:
            raise PluginError(f"Method '{arm.label}' gave an empty or uneven target for '{target.example_id}'.")
        seen.add(target.example_id)
    if not targets:
        raise TrainingError(f"Method '{arm.label}' made no target at all; every example was dropped.")


def score_targets(
    context: RunContext, targets: Sequence[Target], examples: Sequence[Example]
) -> tuple[list[ScoredTarget], bool]:
    """Targets with their token scores under the frozen base, given the plain prompt."""
    from dasd_bench.engine import ScoreRequest

    lab = StoreLab(context, 0)
    by_id = {example.id: example for example in examples}
    own = [by_id[target.example_id] for target in targets]
    requests = [
        ScoreRequest(lab.prompt_ids(example), target.token_ids.tolist(), name=example.id)
        for target, example in zip(targets, own, strict=True)
    ]
    scores, reused = score_requests(context, requests, "score targets")
    scored = [ScoredTarget(e, t, s) for e, t, s in zip(own, targets, scores, strict=True)]
    return scored, reused


def select_weights(arm: ArmSpec, scored: Sequence[ScoredTarget]) -> list[Floats]:
    """The method's static weights, checked: float32, one per token, finite and not negative."""
    weights = []
    for item in scored:
        weight = np.asarray(arm.method.select(item), dtype=np.float32)
        if weight.shape != (len(item.target.token_ids),) or not np.isfinite(weight).all() or (weight < 0).any():
            raise PluginError(
                f"Method '{arm.label}': select() must give one finite weight of at least 0 per token "
                f"(example {item.target.example_id})."
            )
        weights.append(weight)
    return weights


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained adapter in the store."""

    adapter: Path
    folder: Path
    stats: TrainStats
    skipped: list[str]
    truncated: list[str]


def train_arm(
    context: RunContext,
    arm: ArmSpec,
    seed: int,
    scored: Sequence[ScoredTarget],
    weights: Sequence[Floats],
    key: str,
) -> tuple[Trained, bool]:
    """The adapter of one arm and seed."""

    def make(entry: Entry) -> Row:
        import torch

        from dasd_bench.training.batching import TrainExample
        from dasd_bench.training.distributed import Processes
        from dasd_bench.training.job import TrainJob, do_job
        from dasd_bench.training.launch import launch

        context.release()
        lab = StoreLab(context, 0)
        examples = [
            TrainExample(
                example_id=item.target.example_id,
                prompt_ids=np.array(lab.prompt_ids(item.example), dtype=np.int32),
                target_ids=item.target.token_ids,
                weights=weight,
                keep=arm.method.keeps(item.target),
            )
            for item, weight in zip(scored, weights, strict=True)
        ]
        job = TrainJob(
            model=str(context.model.path),
            dtype=context.dtype,
            device=context.device,
            method=arm.plugin.name,
            options=arm.method.describe(),
            plugins=tuple(str(Path(folder).expanduser().resolve()) for folder in context.spec.plugins),
            training=arm.training,
            seed=seed,
            out_dir=str(entry.path.resolve()),
            base_model_name=context.spec.model,
            sharded=context.parallel == "fsdp",
        )
        if context.processes > 1:
            result = launch(job, examples, context.processes, context.console)
        else:
            alone = Processes(device=torch.device(context.device))
            result = do_job(job, examples, alone, context.console, arm.method)
        return {
            "stats": asdict(
                TrainStats(
                    steps=result.steps,
                    target_tokens=result.target_tokens,
                    kept_tokens=round(result.kept_tokens),
                    seconds=result.seconds,
                    final_loss=result.final_loss,
                    peak_memory_gib=result.peak_memory_gib,
                )
            ),
            "skipped": list(result.skipped),
            "truncated": list(result.truncated),
            "held_out": list(result.held_out),
            "best_step": result.best_step,
            "best_loss": result.best_loss,
        }

    entry, reused = context.store.get_or_make("train", key, make, context.console.say)
    meta = entry.meta()
    trained = Trained(
        entry.path / "adapter", entry.path, TrainStats(**meta["stats"]), meta["skipped"], meta["truncated"]
    )
    return trained, reused


def evaluate_model(
    context: RunContext, data: TaskData, adapter: Path | None, adapter_key: str | None
) -> tuple[list[Row], Row, bool]:
    """One model on one task: per-item rows, the task's summary, and whether the store had them."""

    def make(entry: Entry) -> Row:
        from dasd_bench.evaluation import evaluate

        shards = entry.path / ".shards"
        result = evaluate(
            data.task,
            context.engine(adapter),
            context.tokenizer,
            rows=data.test_rows,
            settings=eval_settings(context, data),
            chat=context.chat,
            stop_ids=context.stop_ids,
            shards=DiskShards(shards),
            console=context.console,
        )
        # Validation items keep the names that their rows have in the train split.
        records = [replace(record, id=data.test[record.index].id) for record in result.records]
        lines = [json.dumps(record.to_json(timings=True), ensure_ascii=False) for record in records]
        (entry.path / "samples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        shutil.rmtree(shards, ignore_errors=True)
        return result.summary()

    key = evaluate_key(context, data, adapter_key)
    entry, reused = context.store.get_or_make("evaluate", key, make, context.console.say)
    return read_lines(entry.path / "samples.jsonl"), entry.meta(), reused


def eval_settings(context: RunContext, data: TaskData) -> Any:
    """The evaluation settings of a run for one task."""
    from dasd_bench.evaluation import EvalSettings

    spec = context.spec
    return EvalSettings(
        num_fewshot=None if spec.num_fewshot < 0 or data.retention else spec.num_fewshot,
        limit=None if spec.validation else spec.limit or None,
        validation=spec.validation > 0,
        chat_template=spec.chat_template != "off",
        data_dir=Path(spec.data_dir).expanduser() if spec.data_dir else None,
        offline=spec.offline,
    )
