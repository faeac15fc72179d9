"""One run from specification to table: every stage in order, everything written to the run directory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dasd_bench.config.spec import ArmSpec, to_yaml
from dasd_bench.errors import DasdError
from dasd_bench.results.schema import Arm, RunResults, SeedArm, TaskInfo, TaskScore
from dasd_bench.results.target_stats import target_stats
from dasd_bench.results.token_classes import TokenClasses
from dasd_bench.run.artifacts import piece_text, write_pieces, write_samples, write_targets
from dasd_bench.run.budget import train_summary
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import TaskData, all_train
from dasd_bench.run.drift import start_drift
from dasd_bench.run.keys import arm_keys, train_data_key
from dasd_bench.run.left_out import left_out
from dasd_bench.run.manifest import LeftOut, close_interrupted, conditions, take_manifest, write_manifest
from dasd_bench.run.method_context import StoreLab
from dasd_bench.run.nll import reference_nll
from dasd_bench.run.stages import (
    evaluate_model,
    make_targets,
    score_targets,
    select_weights,
    train_arm,
)
from dasd_bench.store.atomic import remove_leftovers, write_bytes, write_text
from dasd_bench.store.store import Row
from dasd_bench.training.batching import planned_steps
from dasd_bench.types import Floats, ScoredTarget


@dataclass(frozen=True, slots=True)
class Prepared:
    """An arm's training data for one seed."""

    arm: ArmSpec
    seed: int
    scored: list[ScoredTarget]
    weights: list[Floats]
    n_examples: int
    train_key: str


ArmDone = Callable[[RunResults, Arm, SeedArm], None]
"""Told of every finished arm and seed."""


def execute(context: RunContext, data: list[TaskData], arm_done: ArmDone | None = None) -> RunResults:
    """Runs every stage. Arms that fail are reported and left out; the status then is ``partial``.

    The base model works first (targets, scores, base evaluation), then each arm trains and is evaluated, so that one
    model is in memory at a time. While it works the run directory has no manifest; interrupted, it gets one that says
    so, or its earlier one back where nothing was computed yet.
    """
    earlier = take_manifest(context.run_dir)
    try:
        return _execute(context, data, arm_done)
    except KeyboardInterrupt:
        close_interrupted(context, data, earlier)
        raise


def _execute(context: RunContext, data: list[TaskData], arm_done: ArmDone | None) -> RunResults:
    spec, console = context.spec, context.console
    remove_leftovers(context.run_dir)
    write_text(context.run_dir / "spec.yaml", to_yaml(spec))
    tested = [one for one in data if one.test]
    results = RunResults(
        run_id=context.run_dir.name,
        status="finished",
        model=spec.model,
        tasks=[],
        arms=[],
        base={},
        seeds=list(spec.seeds),
        methods=[arm.label for arm in context.arms],
        train=train_summary(context),
    )
    failures: list[str] = []
    not_trained: list[LeftOut] = []
    prepared = prepare_arms(context, data, failures)
    for one in tested:
        score, info = score_model(context, one, None, None, "base")
        results.base[one.name] = score
        results.tasks.append(info)
    results.conditions = conditions(context, data)
    drift = start_drift(context, tested)
    by_label: dict[str, Arm] = {}
    for item in prepared:
        label = item.arm.label
        try:
            seed_arm, omitted = run_arm(context, item, tested)
        except DasdError as error:
            failures.append(f"{label} seed {item.seed}: {error}")
            console.warn(f"{label} seed {item.seed} failed: {error}")
            continue
        if label not in by_label:
            by_label[label] = arm_row(item.arm)
            results.arms.append(by_label[label])
        by_label[label].seeds.append(seed_arm)
        not_trained += [LeftOut(label, item.seed, reason, ids) for reason, ids in omitted.items()]
        results.train = train_summary(context, results.arms)
        if drift is not None:
            drift.collect(label, seed_arm, item.train_key)
        results.stages = list(context.recorder.stages)
        results.save(context.run_dir)
        if arm_done is not None:
            arm_done(results, by_label[label], seed_arm)
    if drift is not None:
        drift.finish(results)
    results.stages = list(context.recorder.stages)
    results.warnings = list(dict.fromkeys(console.warnings))
    results.status = "partial" if failures else "finished"
    results.save(context.run_dir)
    write_manifest(context, data, results.status, failures, not_trained)
    return results


def prepare_arms(context: RunContext, data: list[TaskData], failures: list[str]) -> list[Prepared]:
    """Targets, scores and weights of every arm and seed, with the base model loaded at most once."""
    if not context.arms:
        return []
    examples = all_train(data)
    data_key = train_data_key(data)
    prepared = []
    for arm in context.arms:
        for seed in context.spec.seeds:
            keys = arm_keys(context, arm, seed, data_key)
            try:
                with context.recorder.stage("targets", arm.label, seed) as stage:
                    targets, stage.reused = make_targets(context, arm, seed, examples, keys.targets)
                with context.recorder.stage("score", arm.label, seed) as stage:
                    scored, stage.reused = score_targets(context, targets, examples)
                weights = select_weights(arm, scored)
            except DasdError as error:
                failures.append(f"{arm.label} seed {seed}: {error}")
                context.console.warn(f"{arm.label} seed {seed} failed: {error}")
                continue
            write_targets(arm_folder(context, arm, seed), scored, weights)
            write_pieces(arm_folder(context, arm, seed), scored, context.tokenizer)
            prepared.append(Prepared(arm, seed, scored, weights, len(examples), keys.train))
    if not prepared:
        raise DasdError(f"No arm could be prepared: {failures[0]}")
    return prepared


def run_arm(context: RunContext, item: Prepared, tested: list[TaskData]) -> tuple[SeedArm, dict[str, list[str]]]:
    """Trains one arm with one seed and scores its adapter on every task; with ids of examples left out, by reason."""
    arm, seed = item.arm, item.seed
    warn_of_warmup(context, item)
    folder = arm_folder(context, arm, seed)
    lab = StoreLab(context, 0)
    with context.recorder.stage("train", arm.label, seed) as stage:
        trained, stage.reused = train_arm(context, arm, seed, item.scored, item.weights, item.train_key)
    omitted = left_out(item.scored, item.weights, trained)
    for reason, ids in omitted.items():
        context.console.warn(
            f"{arm.label} seed {seed}: {len(ids)} of {len(item.scored)} training examples were {reason}."
        )
    copy_tree(trained.adapter, folder / "adapter")
    write_bytes(folder / "train" / "metrics.jsonl", (trained.folder / "metrics.jsonl").read_bytes())
    scores = {}
    for one in tested:
        scores[one.name], _ = score_model(context, one, trained.adapter, item.train_key, arm.label, seed)
    stats = target_stats(
        item.scored,
        item.weights,
        n_examples=item.n_examples,
        classes=TokenClasses(partial(piece_text, context.tokenizer), context.tokenizer.all_special_ids),
        references=[np.array(lab.reference_ids(one.example), dtype=np.int32) for one in item.scored],
    )
    return SeedArm(seed, scores, stats, trained.stats), omitted


def warn_of_warmup(context: RunContext, item: Prepared) -> None:
    """Warns where most steps of an arm's training are warm-up, the first of which changes nothing."""
    training = item.arm.training
    steps = planned_steps(len(item.scored), training, item.seed)
    warm = training.warmup_steps(steps)
    if 2 * warm > steps:
        effect = "so nothing is learned" if steps == 1 else "so little is learned"
        context.console.warn(
            f"{item.arm.label} seed {item.seed}: {warm} of {steps} training steps are warm-up, the first one at "
            f"learning rate 0, {effect}; lower training.warmup or train for more steps."
        )


def score_model(
    context: RunContext, data: TaskData, adapter: Path | None, key: str | None, label: str, seed: int | None = None
) -> tuple[TaskScore, TaskInfo]:
    """Evaluates one model on one task and adds the reference nll; writes its ``samples.jsonl``."""
    with context.recorder.stage(f"evaluate {data.name}", label, seed) as stage:
        rows, summary, stage.reused = evaluate_model(context, data, adapter, key)
    context.evaluation[data.name] = summary["config"]
    nll = None
    if not data.retention:
        with context.recorder.stage(f"reference nll {data.name}", label, seed) as stage:
            nll, stage.reused = reference_nll(context, data, adapter, key)
    where = context.run_dir / "base" if seed is None else context.run_dir / "arms" / label / f"seed{seed}"
    write_samples(where / "eval" / data.name / "samples.jsonl", rows)
    info = task_info(data, summary)
    if context.spec.validation:
        info.comparable = False
        info.note = f"validation on rows of the train split, {info.note}"
    return task_score(rows, summary, nll), info


def task_score(rows: list[Row], summary: Row, nll: Any) -> TaskScore:
    """The per-item outcomes of one evaluation as a :class:`TaskScore`."""
    binary = all(row["score"] in (0, 1, 0.0, 1.0) for row in rows)
    reasons: dict[str, int] = {}
    for row in rows:
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    groups = {
        name: [str(row[name]) for row in rows]
        for name in ("level", "subject")
        if rows and all(row.get(name) is not None for row in rows)
    }
    score = TaskScore.from_items(
        [row["id"] for row in rows],
        correct=[int(row["score"]) for row in rows] if binary else None,
        scores=None if binary else [float(row["score"]) for row in rows],
        reasons=dict(sorted(reasons.items())),
        reference_nll=nll,
        groups=groups,
    )
    if rows and all(row.get("confidence") is not None for row in rows):
        score.confidence = [float(row["confidence"]) for row in rows]
    score.seconds = sum(float(row.get("seconds") or 0.0) for row in rows)
    score.tokens = sum(int(row.get("tokens") or 0) for row in rows)
    score.other_metrics = dict(summary.get("metrics", {}))
    return score


def task_info(data: TaskData, summary: Row) -> TaskInfo:
    """One task as the tables describe it."""
    return TaskInfo(
        name=data.name,
        metric=summary["metric"],
        filter=summary["filter"],
        higher_is_better=True,
        comparable=summary["comparable"],
        num_fewshot=summary["num_fewshot"],
        n_items=len(data.test),
        n_train=len(data.train),
        version=data.task.version,
        note=summary["note"],
        max_new_tokens=data.task.max_new_tokens,
        retention=data.retention,
    )


def arm_row(arm: ArmSpec) -> Arm:
    """The table row of an arm."""
    options = arm.method.describe()
    rule = ""
    if "rule" in options:
        numbers = [f"{name}={options[name]:g}" for name in ("tau",) if name in options]
        rule = " ".join([str(options["rule"]), *numbers])
    return Arm(
        method=arm.method.name,
        options=options,
        label=arm.label,
        seeds=[],
        rule=rule,
        denominator=arm.method.denominator,
        folder=arm.label,
        training=asdict(arm.training),
        online=arm.method.online,
    )


def arm_folder(context: RunContext, arm: ArmSpec, seed: int) -> Path:
    """``arms/<label>/seed<k>`` of the run directory."""
    return context.run_dir / "arms" / arm.label / f"seed{seed}"


def copy_tree(source: Path, target: Path) -> None:
    """Copies a folder in place of the one that is there; an interruption leaves the one or the other whole."""
    partial, old = (target.with_name(f".{target.name}.{name}") for name in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(source, partial)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
