"""Turns runs into comparable entries: one per table row, with the seeds of each task and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dasd_bench.errors import DasdError, UsageError, did_you_mean
from dasd_bench.methods.base import BASE
from dasd_bench.results.directory import ModelDirectory, RunDirectory
from dasd_bench.results.schema import Arm, RunResults, SeedArm, TaskInfo, TaskScore
from dasd_bench.results.training_text import runs_differ, settings_differ, training_line, training_settings

TRAINING_CONDITIONS = ("training", "budget")
"""The conditions of a run that say how its arms were trained."""


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

    def seeds(self, task: str) -> list[int | None]:
        """The seeds that finished the task; ``[None]`` for the base."""
        if self.arm is None:
            return [None] if task in self.run.base else []
        return [one.seed for one in self.arm.seeds if task in one.scores]

    def directory(self, run: Path, seed: int | None) -> ModelDirectory:
        """Its folder in the run directory ``run``; ``seed`` is None for the base."""
        directory = RunDirectory(run)
        return directory.base if self.arm is None or seed is None else directory.arm(self.arm.directory, seed)

    def missing(self, info: TaskInfo) -> str:
        """What this row lacks on a task, in words; empty where it is complete."""
        scores = self.scores(info.name)
        if not scores:
            return "not finished"
        short = [score.n for score in scores if score.n != info.n_items]
        if short:
            return f"{min(short)} of {info.n_items} items"
        expected = 1 if self.arm is None or self.arm.adapter is not None else len(expected_seeds(self.run))
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
            raise DasdError(f"Run {run.run_id} was cancelled, so it has no table; rerun its command to finish it.")
        if not any(entry.scores(task.name) for entry in entries(run) for task in run.tasks):
            raise DasdError(f"Run {run.run_id} has no finished task; rerun its command to resume.")


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
    """The row called ``label``: an arm's label or folder, ``base``, or the method of a single row.

    Raises :class:`UsageError` with a suggestion, or with the rows of a method that has several.
    """
    found = entries(run)
    for entry in found:
        if label == entry.label or (entry.arm is not None and label == entry.arm.directory):
            return entry
    named = [entry for entry in found if entry.arm is not None and entry.arm.method == label]
    if len(named) == 1:
        return named[0]
    if named:
        rows = ", ".join(entry.label for entry in named)
        raise UsageError(f"Run {run.run_id} has {len(named)} rows of the method '{label}': {rows}; name one of them.")
    known = [entry.label for entry in found]
    raise UsageError(f"Run {run.run_id} has no row '{label}'.{did_you_mean(label, known)} It has: {', '.join(known)}.")


def values(scores: Sequence[TaskScore]) -> list[list[float]]:
    """Per-item values, one list per seed."""
    return [score.values() for score in scores]


def pairable(a: Sequence[TaskScore], b: Sequence[TaskScore]) -> bool:
    """True where both sides have scores on the same items in the same order."""
    return bool(a) and bool(b) and len({score.item_hash for score in (*a, *b)}) == 1 and a[0].n > 0


def rows_differ(a: Entry, b: Entry) -> list[str]:
    """Why two rows, of one run or of two, are not comparable: their runs' conditions and how each row was trained.

    The untrained model was trained in no way, so that nothing about training speaks against comparing with it.
    """
    if a.arm is None or b.arm is None:
        return conditions_differ(a.run, b.run, leave_out=TRAINING_CONDITIONS)
    settings = training_settings(a.run, a.arm), training_settings(b.run, b.arm)
    if all(settings):
        return [*settings_differ(*settings), *conditions_differ(a.run, b.run, leave_out=TRAINING_CONDITIONS)]
    reasons = conditions_differ(a.run, b.run)
    lines = training_line(a.run, a.arm), training_line(b.run, b.arm)
    if all(lines) and lines[0] != lines[1]:
        return [f"training differs ({lines[0]}; and {lines[1]})", *reasons]
    return reasons


def conditions_differ(a: RunResults, b: RunResults, leave_out: Sequence[str] = ()) -> list[str]:
    """Why two runs are not comparable, one short clause each; empty where they are.

    What belongs to a task that only one of them has is no reason: its columns stay empty on the other side.
    Conditions named in ``leave_out`` are not looked at.
    """
    reasons = []
    tasks = [{task.name for task in run.tasks} for run in (a, b)]
    lone = tasks[0] ^ tasks[1]
    for name in sorted((a.conditions.keys() | b.conditions.keys()) - set(leave_out)):
        # Thinking is recorded where it is on.
        unsaid = "off" if name.startswith("thinking of ") else None
        left, right = a.conditions.get(name, unsaid), b.conditions.get(name, unsaid)
        if left == right or name.rpartition(" ")[2] in lone:
            continue
        if name.startswith("sampling ") and None in (left, right):
            # Not recorded by earlier versions; the hash of the rows tells.
            continue
        if name == "training" and (named := runs_differ(a, b)):
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


def _short(value: str | None) -> str:
    return str(value) if value is None or len(value) <= 24 else f"{value[:12]}..."
