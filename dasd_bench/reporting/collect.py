"""Turns runs into comparable entries: one per table row, with the seeds of each task and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dasd_bench.errors import DasdError, UsageError, did_you_mean
from dasd_bench.reporting.results import Arm, RunResults, SeedArm, TaskInfo, TaskScore

BASE = "base"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row to be: the base model or an arm of one run. ``seeds`` is empty for the base."""

    run: RunResults
    label: str
    arm: Arm | None

    @property
    def is_base(self) -> bool:
        """True for the untrained model."""
        return self.arm is None

    def scores(self, task: str) -> list[TaskScore]:
        """The task's scores, one per finished seed (one for the base); empty where nothing was finished."""
        if self.arm is None:
            return [self.run.base[task]] if task in self.run.base else []
        return [one.scores[task] for one in self.arm.seeds if task in one.scores]

    def missing(self, info: TaskInfo) -> str:
        """What this row lacks on a task, in words; empty where it is complete."""
        scores = self.scores(info.name)
        if not scores:
            return "not finished"
        short = [score.n for score in scores if score.n != info.n_items]
        if short:
            return f"{min(short)} of {info.n_items} items"
        expected = 1 if self.is_base else len(expected_seeds(self.run))
        return f"{len(scores)} of {expected} seeds" if len(scores) < expected else ""

    def seed_arms(self) -> list[SeedArm]:
        """The finished seeds of an arm; none for the base."""
        return [] if self.arm is None else self.arm.seeds


def expected_seeds(run: RunResults) -> list[int]:
    """The seeds that every arm of a run should have."""
    return run.seeds or sorted({one.seed for arm in run.arms for one in arm.seeds})


def entries(run: RunResults) -> list[Entry]:
    """The base, where it was scored, and every arm of a run."""
    found = [Entry(run, BASE, None)] if run.base else []
    return found + [Entry(run, arm.label, arm) for arm in run.arms]


def usable(results: Sequence[RunResults]) -> None:
    """Refuses what must not be in a table: cancelled runs and runs without a finished task."""
    for run in results:
        if run.status == "cancelled":
            raise DasdError(
                f"Run {run.run_id} was cancelled and is not put into a table; run its command again to finish it."
            )
        if not any(entry.scores(task.name) for entry in entries(run) for task in run.tasks):
            raise DasdError(f"Run {run.run_id} has no finished task; run its command again to go on.")


def group_names(results: Sequence[RunResults]) -> list[str]:
    """One name per run: the model, with the run's name where two runs share a model."""
    models = [run.model for run in results]
    return [run.model if models.count(run.model) == 1 else f"{run.model} ({run.run_id})" for run in results]


def task_infos(results: Sequence[RunResults]) -> list[TaskInfo]:
    """The tasks of all runs, in order of first appearance."""
    found: dict[str, TaskInfo] = {}
    for run in results:
        for task in run.tasks:
            found.setdefault(task.name, task)
    return list(found.values())


def find_entry(run: RunResults, label: str) -> Entry:
    """The row called ``label`` (an arm's label, folder or method, or ``base``).

    Raises :class:`UsageError` with a suggestion.
    """
    found = entries(run)
    for entry in found:
        if label == entry.label or (entry.arm is not None and label in (entry.arm.directory, entry.arm.method)):
            return entry
    known = [entry.label for entry in found]
    raise UsageError(f"Run {run.run_id} has no row '{label}'.{did_you_mean(label, known)} It has: {', '.join(known)}.")


def values(scores: Sequence[TaskScore]) -> list[list[float]]:
    """Per-item values, one list per seed."""
    return [score.values() for score in scores]


def pairable(a: Sequence[TaskScore], b: Sequence[TaskScore]) -> bool:
    """True where both sides have scores on the same items in the same order."""
    return bool(a) and bool(b) and len({score.item_hash for score in (*a, *b)}) == 1 and a[0].n > 0


def conditions_differ(a: RunResults, b: RunResults) -> list[str]:
    """Why two runs are not comparable, one short clause each; empty where they are.

    What belongs to a task that only one of them has is no reason: its columns stay empty on the other side.
    """
    reasons = []
    tasks = [{task.name for task in run.tasks} for run in (a, b)]
    lone = tasks[0] ^ tasks[1]
    for name in sorted(a.conditions.keys() | b.conditions.keys()):
        left, right = a.conditions.get(name), b.conditions.get(name)
        if left == right or name.rpartition(" ")[2] in lone:
            continue
        if name == "training" and (named := _options_differ(a.train.config, b.train.config)):
            reasons += named
        elif left is None or right is None:
            reasons.append(f"{name} is known for one run only")
        else:
            reasons.append(f"{name} differs ({_short(left)} and {_short(right)})")
    if a.model != b.model and not any(reason.startswith("model") for reason in reasons):
        reasons.append(f"model differs ({a.model} and {b.model})")
    shared = {task.name: task for task in b.tasks}
    for task in a.tasks:
        other = shared.get(task.name)
        if other is None:
            continue
        for name in ("version", "metric", "filter", "num_fewshot", "n_items", "n_train", "max_new_tokens"):
            left, right = getattr(task, name), getattr(other, name)
            if left != right:
                reasons.append(f"{task.name}: {name} differs ({left} and {right})")
    return reasons


def _options_differ(a: dict[str, object], b: dict[str, object]) -> list[str]:
    """The training options that differ, by name; empty where a run does not list them."""
    return [
        f"training.{name} differs ({a.get(name)} and {b.get(name)})"
        for name in sorted(a.keys() | b.keys())
        if a and b and a.get(name) != b.get(name)
    ]


def _short(value: str | None) -> str:
    return str(value) if value is None or len(value) <= 24 else f"{value[:12]}..."
