"""The rows of the leaderboard: one per entry, method and task, and which of them stand on the same evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from dasd_bench.console import format_seconds
from dasd_bench.reporting.entries import Entry, entries
from dasd_bench.reporting.format import bracket, score, signed
from dasd_bench.reporting.scores import item_interval
from dasd_bench.results.schema import RunResults, TaskInfo
from dasd_bench.results.training_text import training_line

SHARED = ("dtype", "prompt form", "thinking of evaluation")
"""Conditions of a run that belong to the evaluation of every task."""

WEIGHTS = "weights of "


@dataclass(frozen=True, slots=True)
class LeaderRow:
    """One row. ``score`` is the mean over seeds, ``text``, ``interval`` and ``spread`` are as a table prints them.

    ``cost`` and ``seconds`` are per seed, for making the targets and training, ``tokens`` those trained on; None and
    empty for the base. ``apart`` says why the row is not comparable with the others of its task, empty where it is.
    ``best`` marks the best comparable score of a model on a task.
    """

    entry: str
    model: str
    task: str
    method: str
    score: float
    text: str
    interval: str
    spread: str
    items: int
    seeds: int
    change: float | None
    change_text: str
    budget: str
    training: str
    cost: str
    tokens: str
    seconds: float | None
    command: str
    lm_eval: str
    higher_is_better: bool = True
    apart: str = ""
    best: bool = False


def leader_rows(runs: Sequence[tuple[str, RunResults, str]]) -> list[LeaderRow]:
    """The rows of ``runs`` (entry's name, results, command), by task and model, best first.

    The entries of a task that share its evaluation with most others are its main group; all others stand apart.
    """
    found: list[LeaderRow] = []
    for task in dict.fromkeys(info.name for _, run, _ in runs for info in run.tasks if not info.retention):
        holders = [(name, run, command) for name, run, command in runs if any(info.name == task for info in run.tasks)]
        conditions = {name: task_conditions(run, run.task(task)) for name, run, _ in holders}
        main = _main_group(conditions)
        first: dict[str, str] = {}
        for name, run, command in holders:
            reasons, against = conditions_that_differ(conditions[main], conditions[name]), main
            if not reasons:
                # One name of a model may stand for two sets of weights, such as tuned ones.
                against = first.setdefault(run.model, name)
                reasons = conditions_that_differ(conditions[against], conditions[name])
            apart = f"against {against}: {'; '.join(reasons)}" if reasons else ""
            found += [_row(name, entry, run.task(task), command, apart) for entry in entries(run) if entry.scores(task)]
    return _marked(sorted(found, key=lambda row: (row.task, row.model, _descending(row), row.method, row.entry)))


def task_conditions(run: RunResults, info: TaskInfo) -> dict[str, str]:
    """What must be equal for scores on a task to be comparable, whatever the model: name and value or hash.

    The weights are named by their model, so that they speak only of two sides that both say it is the same model. How
    a method was trained is no part of it: that is what the leaderboard compares, and its columns say it.
    """
    found = {name: run.conditions[name] for name in SHARED if name in run.conditions}
    for kind in ("data", "task code"):
        found[kind] = run.conditions.get(f"{kind} {info.name}", "not known")
    return found | {
        "metric": f"{info.metric}, {info.filter}",
        "task version": str(info.version),
        "shots": str(info.num_fewshot),
        "test items": str(info.n_items),
        "training rows": str(info.n_train),
        "answer tokens": str(info.max_new_tokens or "the task's own"),
        f"{WEIGHTS}{run.model}": run.conditions.get("model weights", "not known"),
    }


def conditions_that_differ(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """The conditions in which two sides differ, with both values where they are short; empty where none does."""
    found = []
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        if name.startswith(WEIGHTS) and not (name in ours and name in theirs):
            continue
        left, right = ours.get(name, "not recorded"), theirs.get(name, "not recorded")
        if left != right:
            short = max(len(left), len(right)) <= 32
            found.append(f"{name} {left} and {right}" if short else f"other {name}")
    return found


def _main_group(conditions: Mapping[str, dict[str, str]]) -> str:
    """The first entry of the largest group of equal conditions; of groups of one size, the one with most items."""

    def size(name: str) -> tuple[int, int]:
        own = conditions[name]
        return sum(not conditions_that_differ(own, other) for other in conditions.values()), int(own["test items"])

    return max(conditions, key=size)


def _row(name: str, entry: Entry, info: TaskInfo, command: str, apart: str) -> LeaderRow:
    run, scores = entry.run, entry.scores(info.name)
    means = [one.mean for one in scores]
    mean = fmean(means)
    base = run.base.get(info.name) if not entry.is_base else None
    change = None if base is None else mean - base.mean
    seconds, tokens = _cost(entry)
    return LeaderRow(
        entry=name,
        model=run.model,
        task=info.name,
        method=entry.label,
        score=mean,
        text=score(mean, info.percent),
        interval=bracket(item_interval(info, scores), info.percent),
        spread=f"± {score(stdev(means), info.percent)}" if len(means) > 1 else "",
        items=info.n_items,
        seeds=len(scores),
        change=change,
        change_text="" if change is None else signed(change, info.percent),
        budget="" if entry.arm is None else run.conditions.get("budget", run.train.budget),
        training="" if entry.arm is None else training_line(run, entry.arm),
        cost="" if seconds is None else format_seconds(seconds),
        tokens=tokens,
        seconds=seconds,
        command=command,
        lm_eval="" if info.comparable else info.note or "own variant",
        higher_is_better=info.higher_is_better,
        apart=apart,
    )


def _cost(entry: Entry) -> tuple[float | None, str]:
    trained = [one.train_stats for one in entry.seed_arms() if one.train_stats is not None]
    if not trained:
        return None, ""
    made = [one.target_cost.seconds for one in entry.seed_arms() if one.target_cost is not None]
    seconds = fmean(one.seconds for one in trained) + (fmean(made) if made else 0.0)
    return seconds, f"{fmean(one.target_tokens for one in trained):,.0f}"


def _descending(row: LeaderRow) -> float:
    return -row.score if row.higher_is_better else row.score


def _marked(rows: Sequence[LeaderRow]) -> list[LeaderRow]:
    """The rows with the best comparable score of every model and task marked, where there are two to choose from."""
    groups: dict[tuple[str, str], list[LeaderRow]] = {}
    for row in rows:
        if not row.apart:
            groups.setdefault((row.task, row.model), []).append(row)
    best = {key: min(map(_descending, group)) for key, group in groups.items() if len({r.score for r in group}) > 1}
    return [replace(row, best=not row.apart and best.get((row.task, row.model)) == _descending(row)) for row in rows]
