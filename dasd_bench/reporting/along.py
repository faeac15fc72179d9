"""Scores along training: each row's adapters saved during training, from the untrained model to the final one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from dasd_bench.methods.base import BASE
from dasd_bench.reporting.entries import Entry, entries, group_names, usable
from dasd_bench.reporting.format import bracket, count, score
from dasd_bench.reporting.scores import item_interval
from dasd_bench.reporting.table import Cell, Column, Row, Table, ranked
from dasd_bench.results.schema import RunResults, TaskInfo, TaskScore


@dataclass(frozen=True, slots=True)
class Stop:
    """A row at one fraction of training: steps and active tokens until then (means over the seeds that reached
    it), and the scores by task, one per seed."""

    fraction: float
    steps: float
    kept_tokens: float
    scores: dict[str, list[TaskScore]]

    def mean(self, task: str) -> float:
        """The mean score over seeds."""
        return fmean(one.mean for one in self.scores[task])


def stops(entry: Entry) -> list[Stop]:
    """A row's scores from its first point to its final adapter; empty where none was saved during training."""
    seeds = entry.seed_arms()
    fractions = sorted({point.fraction for one in seeds for point in one.points})
    found = []
    for fraction in fractions:
        points = [point for one in seeds for point in one.points if point.fraction == fraction]
        names = [name for name in points[0].scores if all(name in point.scores for point in points)]
        scores = {name: [point.scores[name] for point in points] for name in names}
        kept = fmean(point.kept_tokens for point in points)
        found.append(Stop(fraction, fmean(point.step for point in points), kept, scores))
    trained = [one.train_stats for one in seeds if one.train_stats is not None]
    if not found or not trained:
        return []
    scored = {name: [one.scores[name] for one in seeds if name in one.scores] for name in found[0].scores}
    final = {name: scores for name, scores in scored.items() if scores}
    kept, steps = fmean(one.kept_tokens for one in trained), fmean(one.best_step or one.steps for one in trained)
    return [*found, Stop(1.0, steps, kept, final)]


def along_table(results: Sequence[RunResults]) -> Table:
    """One group of rows per method: its scores at every fraction of training, best of the group marked."""
    usable(results)
    rows: list[Row] = []
    tasks: dict[str, TaskInfo] = {}
    falls = []
    for name, run in zip(group_names(results), results, strict=True):
        infos = {task.name: task for task in run.tasks}
        for entry in entries(run):
            way = stops(entry)
            group = entry.label if len(results) == 1 else f"{name}: {entry.label}"
            for task in (infos[key] for key in (way[0].scores if way else ())):
                tasks.setdefault(task.name, task)
                falls += _fall(group, task, way)
            for one in _with_base(run, way):
                label = BASE if one.fraction == 0 else f"{100 * one.fraction:g} %"
                counts = {"steps": one.steps, "kept": one.kept_tokens}
                cells = {key: Cell(count(value), value) for key, value in counts.items()}
                cells |= {key: _score_cell(infos[key], scores) for key, scores in one.scores.items()}
                rows.append(Row(label, cells, group))
    columns = [
        Column("steps", "steps"),
        Column("kept", "active\ntokens"),
        *(Column(key, key, "up" if task.higher_is_better else "down", ranked=True) for key, task in tasks.items()),
    ]
    caption = [
        "Scores of the adapter at fractions of training (100 %: the final one, with early stopping the best). ±: "
        "standard deviation over seeds; [..]: 95 % interval over items. Bold: the best of a method's own rows; it is "
        "picked on the test items, so it does not estimate what stopping there would give."
    ]
    if falls:
        caption.append(f"Lower at the end than earlier: {'; '.join(falls)}.")
    return ranked(Table("along", "Scores along training", columns, rows, caption, row_title="trained"))


def _with_base(run: RunResults, way: Sequence[Stop]) -> list[Stop]:
    """The stops with the untrained model before them, where it was scored."""
    if not way:
        return []
    base = {name: [run.base[name]] for name in way[0].scores if name in run.base}
    return [*([Stop(0.0, 0, 0, base)] if base else []), *way]


def _fall(label: str, task: TaskInfo, way: Sequence[Stop]) -> list[str]:
    """The words for a method that ends lower than it was earlier; none where it does not."""
    if not task.percent or task.name not in way[-1].scores:
        return []
    way = [one for one in way if task.name in one.scores]
    best = max(way, key=lambda one: one.mean(task.name))
    lost = best.mean(task.name) - way[-1].mean(task.name)
    return [f"{label} on {task.name}, {100 * lost:.1f} points from {100 * best.fraction:g} %"] if lost > 0 else []


def _score_cell(task: TaskInfo, scores: Sequence[TaskScore]) -> Cell:
    means = [one.mean for one in scores]
    interval = item_interval(task, scores)
    spread = stdev(means) if len(means) > 1 else None
    detail = bracket(interval, task.percent) if spread is None else f"± {score(spread, task.percent)}"
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return Cell(score(fmean(means), task.percent), fmean(means), detail, low, high, spread, n=scores[0].n)
