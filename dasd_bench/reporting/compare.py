"""Compares two rows item by item: paired tests by task, and the items that changed with both completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from dasd_bench.errors import DasdError, StoreError, UsageError
from dasd_bench.reporting.caption import power_line, power_notes
from dasd_bench.reporting.entries import (
    Entry,
    entries,
    find_entry,
    pairable,
    rows_differ,
    usable,
    values,
)
from dasd_bench.reporting.format import bracket, p_value, score, signed
from dasd_bench.reporting.table import Cell, Column, Note, Row, Table
from dasd_bench.results.runs import find_run, load_run
from dasd_bench.results.samples import Sample, read_samples
from dasd_bench.results.schema import TaskInfo, TaskScore
from dasd_bench.stats.multiple import holm, stars
from dasd_bench.stats.paired import Paired, compare

CHANGED_ITEMS = 10


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: a row of a run directory."""

    path: Path
    entry: Entry

    @property
    def name(self) -> str:
        """``run:label``."""
        return f"{self.path.name}:{self.entry.label}"


@dataclass(frozen=True, slots=True)
class Change:
    """One item that the two sides answered differently; ``difference`` is A minus B (mean over seeds)."""

    task: str
    item: str
    difference: float
    prompt: str
    a: Sample
    b: Sample


@dataclass(frozen=True, slots=True)
class Comparison:
    """The table, the reasons why the two sides are not comparable, the changed items, and what could not be done."""

    table: Table
    not_comparable: list[str]
    changes: list[Change]
    notes: list[str] = field(default_factory=list)


def pick_sides(first: str, second: str, folder: Path) -> list[tuple[Side, Side]]:
    """The pairs of rows that ``RUN`` or ``RUN:ROW`` name; see :func:`pair_sides`."""
    return pair_sides(_split(first, folder), _split(second, folder))


def pair_sides(first: tuple[Path, str], second: tuple[Path, str]) -> list[tuple[Side, Side]]:
    """The pairs of rows of two run directories, each with the row's label, or empty for its methods.

    Without a row, a run with one method stands for that method; two runs with several methods are paired by the labels
    they share. Raises :class:`UsageError` where that leaves nothing to compare.
    """
    (path_a, row_a), (path_b, row_b) = first, second
    run_a, run_b = load_run(path_a), load_run(path_b)
    usable([run_a, run_b])
    list_a = [find_entry(run_a, row_a)] if row_a else [entry for entry in entries(run_a) if not entry.is_base]
    list_b = [find_entry(run_b, row_b)] if row_b else [entry for entry in entries(run_b) if not entry.is_base]
    if len(list_a) == 1 and len(list_b) == 1:
        pairs = [(list_a[0], list_b[0])]
    else:
        pairs = [(a, b) for a in list_a for b in list_b if a.label == b.label]
    if not pairs:
        raise UsageError(
            f"{path_a.name} and {path_b.name} have no method in common; name the rows to compare, such as "
            f"'{path_a.name}:{list_a[0].label if list_a else 'base'}' and "
            f"'{path_b.name}:{list_b[0].label if list_b else 'base'}'."
        )
    sides = [(Side(path_a, a), Side(path_b, b)) for a, b in pairs]
    if any(a.path.resolve() == b.path.resolve() and a.entry.label == b.entry.label for a, b in sides):
        names = [f"{path}{':' if row else ''}{row}" for path, row in (first, second)]
        raise UsageError(f"'{names[0]}' and '{names[1]}' are the same row; name two, such as RUN:sft and RUN:dasd.")
    return sides


def _split(name: str, folder: Path) -> tuple[Path, str]:
    path, colon, row = name.rpartition(":")
    if colon and not Path(name).exists() and not (folder / name).exists():
        return find_run(path, folder), row
    return find_run(name, folder), ""


def compare_sides(a: Side, b: Side, changed: int = CHANGED_ITEMS) -> Comparison:
    """Paired tests on every task that both sides finished, and the ``changed`` items that moved most.

    Raises :class:`DasdError` where no task has the same items on both sides.
    """
    tests: dict[tuple[int, str], Paired] = {}
    shared: list[TaskInfo] = []
    notes: list[str] = []
    for info in a.entry.run.tasks:
        ours, theirs = a.entry.scores(info.name), b.entry.scores(info.name)
        if not ours or not theirs:
            notes.append(f"{info.name}: not finished on both sides.")
        elif not pairable(ours, theirs):
            notes.append(f"{info.name}: the two sides have different items, no paired test.")
        else:
            shared.append(info)
            tests[0, info.name] = compare(values(ours), values(theirs), higher_is_better=info.higher_is_better)
            notes += [
                f"{info.name}: {side.name} is unfinished ({missing})."
                for side in (a, b)
                if (missing := side.entry.missing(info))
            ]
    if not tests:
        raise DasdError(f"{a.name} and {b.name} have no task with the same evaluated items: {' '.join(notes)}")
    changes: list[Change] = []
    for info in shared if changed else []:
        try:
            changes += _changes(info, a, b)
        except StoreError as err:
            notes.append(str(err))
    changes.sort(key=lambda change: (-abs(change.difference), change.task, change.item))
    reasons = rows_differ(a.entry, b.entry)
    return Comparison(_table(a, b, shared, tests), reasons, _balanced(changes, changed), notes)


def _balanced(changes: Sequence[Change], limit: int) -> list[Change]:
    """Largest changes first, wins and losses in turn, so that one kind does not hide the other."""
    wins = [change for change in changes if change.difference > 0]
    losses = [change for change in changes if change.difference < 0]
    least = max(0, limit - len(losses))
    won = wins[: max(least, (limit + 1) // 2)]
    picked = won + losses[: limit - len(won)]
    return sorted(picked, key=lambda change: (-abs(change.difference), change.task, change.item))


def _table(a: Side, b: Side, tasks: list[TaskInfo], tests: dict[tuple[int, str], Paired]) -> Table:
    adjusted = holm([tests[0, task.name].p for task in tasks])
    rows = []
    for task, p_holm in zip(tasks, adjusted, strict=True):
        test = tests[0, task.name]
        low, high = (None, None) if test.interval is None else (test.interval.low, test.interval.high)
        cells = {
            "n": Cell(str(test.n), test.n),
            "a": _mean(task, a.entry.scores(task.name)),
            "b": _mean(task, b.entry.scores(task.name)),
            "difference": Cell(
                signed(test.difference, task.percent),
                test.difference,
                bracket(test.interval, task.percent, sign=True),
                low,
                high,
            ),
            "wins": Cell(str(test.wins), test.wins),
            "losses": Cell(str(test.losses), test.losses),
            "ties": Cell(str(test.ties), test.ties),
            "p": Cell(p_value(test.p)[1:].lstrip("="), test.p, p=test.p),
            "p_holm": Cell(p_value(p_holm)[1:].lstrip("="), p_holm, mark=stars(p_holm)),
        }
        rows.append(Row(task.name, cells))
    columns = [
        Column("n", "items"),
        Column("a", "A"),
        Column("b", "B"),
        Column("difference", "A - B"),
        Column("wins", "A better"),
        Column("losses", "B better"),
        Column("ties", "same"),
        Column("p", "p"),
        Column("p_holm", "p (Holm)"),
    ]
    kinds = sorted({test.test for test in tests.values()})
    caption = [
        f"A = {a.name}, B = {b.name}. Paired by item: A - B with its 95 % interval over items; p two-sided "
        f"({', '.join(kinds)}).",
        power_line(tasks, tests),
    ]
    notes = [Note(text) for text in power_notes(tasks, tests)]
    return Table("compare", f"{a.name} vs {b.name}", columns, rows, caption, row_title="task", notes=notes)


def _mean(task: TaskInfo, scores: Sequence[TaskScore]) -> Cell:
    mean = fmean(one.mean for one in scores)
    return Cell(score(mean, task.percent), mean)


def _changes(info: TaskInfo, a: Side, b: Side) -> list[Change]:
    """Items whose mean over seeds differs, with the completion of a seed that shows the difference."""
    found = []
    left, right = _by_seed(info, a), _by_seed(info, b)
    means_a, means_b = _item_means(info, a), _item_means(info, b)
    for index, (x, y) in enumerate(zip(means_a, means_b, strict=True)):
        if abs(x - y) < 1e-12:
            continue
        one = _showing([samples[index] for samples in left], high=x > y)
        other = _showing([samples[index] for samples in right], high=x < y)
        if one.id != other.id:
            raise StoreError(f"{info.name}: item {index} is {one.id} in {a.name} and {other.id} in {b.name}.")
        found.append(Change(info.name, one.id, x - y, one.prompt, one, other))
    return found


def _showing(samples: list[Sample], *, high: bool) -> Sample:
    return (max if high else min)(samples, key=lambda sample: sample.score)


def _item_means(info: TaskInfo, side: Side) -> list[float]:
    return [fmean(item) for item in zip(*values(side.entry.scores(info.name)), strict=True)]


def _by_seed(info: TaskInfo, side: Side) -> list[list[Sample]]:
    size = side.entry.scores(info.name)[0].n
    found = []
    for seed in side.entry.seeds(info.name):
        path = side.entry.directory(side.path, seed).samples(info.name)
        samples = read_samples(path)
        if len(samples) != size:
            raise StoreError(
                f"{path} holds {len(samples)} records, results.json {size} items; changed items not shown."
            )
        found.append(samples)
    return found
