"""What finished stages found, as the results that tables are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from statistics import fmean

import numpy as np

from dasd_bench.config.spec import ArmSpec
from dasd_bench.methods import plugin_calls
from dasd_bench.methods.base import Method
from dasd_bench.results.samples import Sample
from dasd_bench.results.schema import AnswerStats, Arm, PointScores, ReferenceNll, SeedArm, TaskScore
from dasd_bench.results.target_stats import target_stats
from dasd_bench.results.targets_file import piece_text
from dasd_bench.results.token_classes import TokenClasses
from dasd_bench.run.given_adapter import ADAPTER, GivenAdapter
from dasd_bench.run.graph import AdapterStages, ArmStages, ModelStages
from dasd_bench.run.prompts import Prompts


def model_scores(model: ModelStages) -> dict[str, TaskScore]:
    """The scores of one model by task."""
    scores = {}
    for name, evaluation in model.evaluations.items():
        nll = model.nlls[name].value if name in model.nlls else None
        found = evaluation.value
        scores[name] = task_score(found.records, found.summary.get("metrics", {}), nll)
    return scores


def task_score(records: Sequence[Sample], metrics: dict[str, float], reference_nll: ReferenceNll | None) -> TaskScore:
    """The per-item outcomes of one evaluation as a :class:`TaskScore`."""
    binary = all(record.score in (0.0, 1.0) for record in records)
    reasons: dict[str, int] = {}
    for record in records:
        reasons[record.reason.value] = reasons.get(record.reason.value, 0) + 1
    groups = {
        name: [str(getattr(record, name)) for record in records]
        for name in ("level", "subject")
        if records and all(getattr(record, name) is not None for record in records)
    }
    score = TaskScore.from_items(
        [record.id for record in records],
        correct=[int(record.score) for record in records] if binary else None,
        scores=None if binary else [float(record.score) for record in records],
        reasons=dict(sorted(reasons.items())),
        reference_nll=reference_nll,
        groups=groups,
    )
    confidence = [record.confidence for record in records if record.confidence is not None]
    if len(confidence) == len(records):
        score.confidence = confidence
    score.seconds = sum(record.seconds for record in records)
    score.tokens = sum(record.tokens for record in records)
    score.other_metrics = dict(metrics)
    score.answers = answer_stats(records)
    return score


def answer_stats(records: Sequence[Sample]) -> AnswerStats | None:
    """Lengths of written answers; None where answers are choices. Of several samples of an item the first one's end is
    known, and the mean length."""
    written = [record for record in records if record.finish is not None]
    if not written or len(written) < len(records):
        return None
    lengths = [record.tokens / len(record.completions or [record.completion]) for record in written]
    cut = sum(record.finish == "length" for record in written)
    return AnswerStats(len(written), fmean(lengths), cut / len(written))


def seed_arm(stages: ArmStages | AdapterStages) -> SeedArm:
    """One finished arm and seed."""
    if isinstance(stages, AdapterStages):
        return SeedArm(stages.seed, model_scores(stages.model))
    targets, context = stages.scores.value, stages.scores.context
    prompts = Prompts(context)
    stats = target_stats(
        targets,
        n_examples=len(stages.targets.examples) + len(stages.targets.no_room),
        classes=TokenClasses(partial(piece_text, context.tokenizer), context.tokenizer.all_special_ids),
        references=[np.array(prompts.reference_ids(one.example), dtype=np.int32) for one in targets],
        notes=stages.arm.method.notes,
    )
    cost = stages.targets.cost
    return SeedArm(
        stages.seed,
        model_scores(stages.model),
        stats,
        stages.train.value.stats,
        target_cost=replace(cost, seconds=cost.seconds + stages.scores.seconds),
        points=points(stages),
    )


def points(stages: ArmStages) -> list[PointScores]:
    """The scores of the adapters saved during training, in order."""
    found = []
    for name, point in stages.train.value.points.items():
        evaluated = [(one.data.name, one.value) for one in stages.points[name]]
        scores = {task: task_score(one.records, one.summary.get("metrics", {}), None) for task, one in evaluated}
        found.append(PointScores(point.fraction, point.step, point.target_tokens, point.kept_tokens, scores))
    return found


def arm_row(arm: ArmSpec | GivenAdapter) -> Arm:
    """The table row of an arm, without its seeds."""
    if isinstance(arm, GivenAdapter):
        return Arm(ADAPTER, {}, arm.label, [], folder=arm.folder, adapter=arm.summary())
    return Arm(
        method=arm.name,
        options=arm.options,
        label=arm.label,
        seeds=[],
        denominator=arm.weighing.method.denominator,
        folder=arm.folder,
        training=asdict(arm.training),
        online=arm.weighing.method.online,
    )


def remark(method: Method, row: Arm) -> str:
    """What the method says of the row's notes, means over its finished seeds."""
    found: dict[str, list[float]] = {}
    for one in row.seeds:
        for note in one.target_stats.notes if one.target_stats is not None else []:
            if note.value is not None:
                found.setdefault(note.name, []).append(note.value)
    return plugin_calls.remark(method, {name: fmean(values) for name, values in found.items()})
