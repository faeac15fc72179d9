"""The main table: rows are the base and the methods, columns the tasks, with intervals and paired tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev

from dasd_bench.methods.base import BASE
from dasd_bench.reporting import caption as captions
from dasd_bench.reporting.entries import (
    Entry,
    conditions_differ,
    entries,
    expected_seeds,
    find_entry,
    group_names,
    pairable,
    task_infos,
    usable,
    values,
)
from dasd_bench.reporting.format import bracket, number, p_value, score, signed
from dasd_bench.reporting.table import EMPTY, Cell, Column, Row, Table, ranked
from dasd_bench.results.schema import RunResults, TaskInfo, TaskScore
from dasd_bench.stats.intervals import Interval, bootstrap, matched_difference, wilson
from dasd_bench.stats.multiple import holm, stars
from dasd_bench.stats.paired import Paired, compare
from dasd_bench.types import Reason

PARTIAL_MARK = "†"
INFRASTRUCTURE = Reason.INFRASTRUCTURE_ERROR.value


@dataclass(slots=True)
class _Work:
    """What is known while the table is built: tests by (row index, task), and marks that need a footnote."""

    tasks: list[TaskInfo]
    several_seeds: bool
    tests: dict[tuple[int, str], Paired] = field(default_factory=dict)
    adjusted: dict[tuple[int, str], float] = field(default_factory=dict)
    unpaired: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)


def item_interval(info: TaskInfo, scores: Sequence[TaskScore]) -> Interval | None:
    """The 95 % interval over items: Wilson for pass/fail with one seed, else bootstrap of the items' seed means.

    Pass/fail items that all have one mean (all right, all wrong, or there is but one) get Wilson's, where the bootstrap
    would have width 0.
    """
    if not scores or scores[0].n == 0:
        return None
    if len(scores) == 1 and scores[0].correct is not None:
        return wilson(sum(scores[0].correct), scores[0].n)
    if len({one.n for one in scores}) > 1:
        return None
    items = [fmean(item) for item in zip(*values(scores), strict=True)]
    if scores[0].binary and len(set(items)) == 1:
        return wilson(round(fmean(items) * len(items)), len(items))
    return bootstrap(items)


def average_interval(tasks: Sequence[TaskInfo], scores: Sequence[list[TaskScore]]) -> Interval | None:
    """The 95 % interval of the plain average over tasks, from those of the tasks; None where one has none.

    The distances from each score to its ends add in squares (MOVER: Zou and Donner 2008, Stat. Med. 27:1693), so that
    tasks at 0 or 100 % keep a width.
    """
    found = [item_interval(task, one) for task, one in zip(tasks, scores, strict=True)]
    intervals = [interval for interval in found if interval is not None]
    if not intervals or len(intervals) < len(found):
        return None
    means = [fmean(score.mean for score in one) for one in scores]
    below = math.sqrt(sum((mean - one.low) ** 2 for mean, one in zip(means, intervals, strict=True))) / len(means)
    above = math.sqrt(sum((one.high - mean) ** 2 for mean, one in zip(means, intervals, strict=True))) / len(means)
    average = fmean(means)
    return Interval(average - below, average + above, intervals[0].level, "MOVER")


def run_table(results: Sequence[RunResults], *, baseline: str = BASE) -> Table:
    """The table of scores of one run or of several (one group of rows each).

    Columns by key: ``<task>`` (score; interval over items with one seed, else spread over seeds), ``average``,
    ``delta`` (average minus the baseline's, Agresti-Min interval over items), ``<task>:vs`` (items gained and lost, p),
    ``<task>:nll`` and ``<task>:nll_numeric``, and ``ti`` and ``bwt`` where the run has retention tasks.
    Marks come from Holm's correction over all paired tests of the table. Raises :class:`DasdError` for runs that
    cannot be shown and :class:`UsageError` for an unknown ``baseline``.
    """
    usable(results)
    # What is evaluated for forgetting has a table of its own; here it counts as BWT.
    tasks = [task for task in task_infos(results) if not task.retention]
    listed = [
        (group, entry) for group, run in zip(group_names(results), results, strict=True) for entry in entries(run)
    ]
    bases = {id(run): baseline_entry(run, baseline) for run in results}
    work = _Work(tasks, any(len(expected_seeds(run)) > 1 for run in results))
    for index, (_, entry) in enumerate(listed):
        _test(work, index, entry, bases[id(entry.run)])
    keys = list(work.tests)
    work.adjusted = dict(zip(keys, holm([work.tests[key].p for key in keys]), strict=True))
    rows = [_row(work, index, group, entry, bases[id(entry.run)]) for index, (group, entry) in enumerate(listed)]
    title = results[0].model if len(results) == 1 else f"{len(results)} runs"
    if len(results) == 1 and results[0].status == "partial":
        title += " (partial run)"
    table = Table("scores", title, _columns(tasks, rows, bases, baseline), rows)
    warnings = [*work.unpaired, *run_warnings(results, work.partial)]
    return replace(
        ranked(table),
        caption=captions.score_caption(results, work.tests, baseline),
        notes=captions.score_notes(results, work.tests, baseline),
        warnings=warnings,
    )


def baseline_entry(run: RunResults, baseline: str) -> Entry | None:
    """The row that a run's rows are compared with; None where that is the base and it was not scored."""
    if baseline == BASE and not run.base:
        return None
    return find_entry(run, baseline)


def _columns(tasks: list[TaskInfo], rows: list[Row], bases: dict[int, Entry | None], baseline: str) -> list[Column]:
    def used(key: str) -> bool:
        return any(row.cell(key) is not EMPTY for row in rows)

    def way(task: TaskInfo) -> str:
        return "up" if task.higher_is_better else "down"

    versus = next((entry.label for entry in bases.values() if entry is not None), baseline)
    columns = [Column(task.name, task.name, way(task), "scores", ranked=True) for task in tasks]
    columns.append(Column("average", "average", "up", "scores", ranked=True, shown=len(tasks) > 1))
    columns.append(Column("delta", f"Δ {versus}", "up", "scores"))
    columns += [Column("ti", "TI %", "up", "change"), Column("bwt", "BWT %", "up", "change")]
    columns += [Column(f"{task.name}:vs", f"{task.name}\nvs {versus}", "", "paired") for task in tasks]
    columns += [Column(f"{task.name}:nll", f"{task.name}\nref. NLL", "down", "nll", ranked=True) for task in tasks]
    for task in tasks:
        key = f"{task.name}:nll_numeric"
        columns.append(Column(key, f"{task.name}\nnumeric NLL", "down", "nll", ranked=True, shown=False))
    names = {task.name for task in tasks}
    return [column for column in columns if column.key in names or used(column.key)]


def _test(work: _Work, index: int, entry: Entry, base: Entry | None) -> None:
    if base is None or entry.label == base.label:
        return
    for info in work.tasks:
        ours, theirs = entry.scores(info.name), base.scores(info.name)
        if pairable(ours, theirs):
            work.tests[index, info.name] = compare(values(ours), values(theirs), higher_is_better=info.higher_is_better)
        elif ours and theirs:
            work.unpaired.append(
                f"{entry.label} and {base.label} were scored on different items of {info.name}: no paired test."
            )


def _row(work: _Work, index: int, group: str, entry: Entry, base: Entry | None) -> Row:
    cells: dict[str, Cell] = {}
    lacking = []
    for info in work.tasks:
        if info.name not in {task.name for task in entry.run.tasks}:
            continue
        scores = entry.scores(info.name)
        missing = entry.missing(info)
        if missing:
            lacking.append(f"{info.name} {missing}")
        if scores:
            cells[info.name] = _score_cell(work, index, info, scores, bool(missing))
        test = work.tests.get((index, info.name))
        if test is not None:
            adjusted = work.adjusted[index, info.name]
            text = f"+{test.wins}/-{test.losses} {p_value(test.p)}"
            cells[f"{info.name}:vs"] = Cell(
                text,
                test.difference,
                low=None if test.interval is None else test.interval.low,
                high=None if test.interval is None else test.interval.high,
                n=test.n,
                p=test.p,
                p_holm=adjusted,
                mark=stars(adjusted),
            )
        _nll_cells(cells, info, scores, not missing)
    if not lacking:
        cells |= _summary_cells(work, entry, base)
    else:
        work.partial.append(f"{entry.label}: {', '.join(lacking)}")
    label = f"{entry.label} {PARTIAL_MARK}" if lacking else entry.label
    return Row(label, cells, group)


def _score_cell(work: _Work, index: int, info: TaskInfo, scores: list[TaskScore], partial: bool) -> Cell:
    means = [one.mean for one in scores]
    interval = item_interval(info, scores)
    spread = stdev(means) if len(means) > 1 else None
    if spread is not None:
        detail = f"± {score(spread, info.percent)}"
    else:
        detail = bracket(interval, info.percent)
    adjusted = work.adjusted.get((index, info.name))
    mark = stars(adjusted) if adjusted is not None else ""
    return Cell(
        score(fmean(means), info.percent),
        fmean(means),
        detail,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        spread=spread,
        n=min(one.n for one in scores),
        mark=mark + (PARTIAL_MARK if partial else ""),
        sound=not partial,
    )


def _nll_cells(cells: dict[str, Cell], info: TaskInfo, scores: list[TaskScore], sound: bool) -> None:
    found = [one.reference_nll for one in scores if one.reference_nll is not None]
    if found and len(found) == len(scores):
        cells[f"{info.name}:nll"] = _mean_cell([one.all_tokens_mean for one in found], sound)
        numeric = [one.numeric_tokens_mean for one in found if one.numeric_tokens_mean is not None]
        if len(numeric) == len(found):
            cells[f"{info.name}:nll_numeric"] = _mean_cell(numeric, sound)


def _mean_cell(means: list[float], sound: bool) -> Cell:
    spread = stdev(means) if len(means) > 1 else None
    detail = "" if spread is None else f"± {number(spread, 3)}"
    return Cell(number(fmean(means), 3), fmean(means), detail, spread=spread, sound=sound)


def _summary_cells(work: _Work, entry: Entry, base: Entry | None) -> dict[str, Cell]:
    """Average, difference and the relative changes of a row that has every task of its run."""
    own = [task for task in work.tasks if task.name in {mine.name for mine in entry.run.tasks}]
    kept = [task for task in entry.run.tasks if task.retention]
    cells: dict[str, Cell] = {}
    # An average of shares and perplexities, or of rows with unlike tasks, would mean nothing.
    if all(task.percent and task.higher_is_better for task in own) and len(own) == len(work.tasks):
        by_task = [[one.mean for one in entry.scores(task.name)] for task in own]
        average = fmean(fmean(means) for means in by_task)
        seeds = _seed_averages(by_task)
        spread = stdev(seeds) if len(seeds) > 1 else None
        interval = average_interval(own, [entry.scores(task.name) for task in own])
        detail = bracket(interval) if spread is None else f"± {score(spread, True)}"
        low, high = (None, None) if interval is None else (interval.low, interval.high)
        cells["average"] = Cell(score(average, True), average, detail, low, high, spread)
        if base is not None and base.label != entry.label and not any(base.missing(task) for task in own):
            cells |= _delta_cell(entry, base, own)
    whole = all(entry.scores(task.name) for task in kept)
    if base is not None and base.is_base and not entry.is_base and whole:
        cells |= _change_cells(entry, base, [*own, *kept])
    return cells


def _seed_averages(by_task: list[list[float]]) -> list[float]:
    if len({len(means) for means in by_task}) != 1:
        return []
    return [fmean(column) for column in zip(*by_task, strict=True)]


def _delta_cell(entry: Entry, base: Entry, tasks: list[TaskInfo]) -> dict[str, Cell]:
    found = average_change(entry, base, tasks)
    if found is None:
        return {}
    difference, interval = found
    return {"delta": Cell(signed(difference), difference, bracket(interval, sign=True), interval.low, interval.high)}


def average_change(entry: Entry, base: Entry, tasks: Sequence[TaskInfo]) -> tuple[float, Interval] | None:
    """The mean over ``tasks`` of a row's score minus the baseline's, and its 95 % interval over items.

    None where a task has other items on one side, or none.
    """
    strata = []
    for task in tasks:
        ours, theirs = entry.scores(task.name), base.scores(task.name)
        if not pairable(ours, theirs):
            return None
        left = [fmean(item) for item in zip(*values(ours), strict=True)]
        right = [fmean(item) for item in zip(*values(theirs), strict=True)]
        strata.append([a - b for a, b in zip(left, right, strict=True)])
    return fmean(fmean(items) for items in strata), matched_difference(strata)


def outside(task: TaskInfo) -> bool:
    """True for a task that the arms were not trained on."""
    return task.retention or task.n_train == 0


def _change_cells(entry: Entry, base: Entry, tasks: list[TaskInfo]) -> dict[str, Cell]:
    """Target improvement and backward transfer: mean relative change on trained and on retention tasks (2501.14315)."""
    cells: dict[str, Cell] = {}
    if not any(task.retention for task in tasks):
        return cells
    for key, kept in (("ti", False), ("bwt", True)):
        changes = []
        for task in tasks:
            before = base.scores(task.name)
            if outside(task) is kept and before and before[0].mean:
                after = fmean(one.mean for one in entry.scores(task.name))
                changes.append((after - before[0].mean) / before[0].mean * (1 if task.higher_is_better else -1))
        if changes and all(math.isfinite(change) for change in changes):
            cells[key] = Cell(signed(fmean(changes)), fmean(changes))
    return cells


def run_warnings(results: Sequence[RunResults], partial: Sequence[str]) -> list[str]:
    """What must be seen with any table of these runs' scores; ``partial`` says what each unfinished row lacks."""
    warnings = []
    for run in results:
        if run.status == "partial":
            warnings.append(
                f"Run {run.run_id} is partial: entries marked {PARTIAL_MARK} are unfinished and not averaged."
            )
        done = {arm.label for arm in run.arms}
        absent = [name for name in run.methods if name not in done]
        if absent:
            warnings.append(f"Run {run.run_id} has no result for {', '.join(absent)}.")
        broken = {
            task.name: total
            for task in run.tasks
            if (total := sum(s.reasons.get(INFRASTRUCTURE, 0) for e in entries(run) for s in e.scores(task.name)))
        }
        warnings += [
            f"Run {run.run_id}, {name}: {total} answers were lost to infrastructure errors and count as wrong."
            for name, total in broken.items()
        ]
    if partial:
        warnings.append(f"{PARTIAL_MARK} {'; '.join(partial)}.")
    first = results[0]
    for other in results[1:]:
        reasons = [reason for reason in conditions_differ(first, other) if not reason.startswith("model")]
        if reasons:
            warnings.append(f"Runs {first.run_id} and {other.run_id} are not comparable: {'; '.join(reasons)}.")
    return warnings
