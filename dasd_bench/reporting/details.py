"""The tables beside the scores: what the targets are like, what each row cost, and scores by level, subject or seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean, stdev

import numpy as np

from dasd_bench.errors import UsageError, did_you_mean
from dasd_bench.methods.base import BASE
from dasd_bench.reporting.entries import Entry, entries, group_names, pairable, task_infos, usable
from dasd_bench.reporting.format import bracket, count, number, percent, score
from dasd_bench.reporting.notes import declared_notes, note_column, note_help, note_text, note_values, remarks
from dasd_bench.reporting.scores import PARTIAL_MARK, baseline_entry, run_warnings
from dasd_bench.reporting.table import EMPTY, Cell, Column, Note, Row, Table, ranked
from dasd_bench.results.schema import RunResults, TargetStats, TaskInfo, TaskScore
from dasd_bench.stats.intervals import bootstrap, wilson
from dasd_bench.stats.multiple import holm, stars
from dasd_bench.stats.paired import compare
from dasd_bench.types import Reason

CONFIDENCE = "confidence"
"""The grouping by quartile of the base's confidence, which every task has."""

FAILURES = tuple(
    reason.value for reason in (Reason.NO_ANSWER, Reason.TRUNCATED, Reason.TIMEOUT, Reason.INFRASTRUCTURE_ERROR)
)
"""The reasons that :func:`reason_table` shows."""

TargetField = tuple[Column, Callable[[TargetStats], float | None], Callable[[float | None], str]]

TARGET_FIELDS: tuple[TargetField, ...] = (
    (Column("n", "targets"), lambda s: s.n, count),
    (Column("ppl", "PPL"), lambda s: s.ppl, number),
    (Column("hpr2.5", "HPR\n@2.5"), lambda s: s.hpr.get("2.5"), lambda v: number(v, 3)),
    (Column("hpr10", "HPR\n@10", shown=False), lambda s: s.hpr.get("10"), lambda v: number(v, 3)),
    (Column("hpr25", "HPR\n@25", shown=False), lambda s: s.hpr.get("25"), lambda v: number(v, 3)),
    (Column("acceptance", "accepted\n%"), lambda s: s.acceptance, percent),
    (Column("gold", "gold\n%"), lambda s: s.gold_share, percent),
    (Column("from_base", "from\nbase %"), lambda s: s.base_share, percent),
    (Column("zero", "weight 0\n%"), lambda s: s.weight_zero_share, percent),
    (Column("length", "tokens\neach"), lambda s: s.mean_length, lambda v: number(v, 1)),
    (Column("dropped", "dropped", shown=False), lambda s: s.dropped, count),
    (Column("length_50", "median\ntokens", shown=False), lambda s: _point(s, 1), lambda v: number(v, 0)),
    (Column("length_90", "90 %\ntokens", shown=False), lambda s: _point(s, 2), lambda v: number(v, 0)),
    (Column("agreement", "ROUGE-L\nto gold", shown=False), lambda s: s.gold_agreement, lambda v: number(v, 3)),
    (Column("numbers", "gold's\nnumbers %", shown=False), lambda s: s.numbers_kept, percent),
    (Column("auc_confidence", "AUC\nconfidence", shown=False), lambda s: s.auc_confidence, lambda v: number(v, 3)),
    (Column("auc_probability", "AUC\np(token)", shown=False), lambda s: s.auc_probability, lambda v: number(v, 3)),
)


def _point(stats: TargetStats, index: int) -> float | None:
    return stats.lengths[index] if stats.lengths else None


def target_table(results: Sequence[RunResults]) -> Table:
    """What each method trained on, measured under the frozen base; values are means over seeds where they differ."""
    usable(results)
    rows, notes = [], []
    varied = False
    counted = declared_notes(results)
    columns = [field[0] for field in TARGET_FIELDS] + [note_column(note) for note in counted]
    for group, run in zip(group_names(results), results, strict=True):
        for entry in entries(run):
            stats = [one.target_stats for one in entry.seed_arms() if one.target_stats is not None]
            if not stats:
                continue
            cells = {
                column.key: _seed_mean([value for one in stats if (value := get(one)) is not None], text)
                for column, get, text in TARGET_FIELDS
            }
            for note in counted:
                cells[f"note:{note.name}"] = _seed_mean(note_values(stats, note.name), partial(note_text, note))
            cells = {key: cell for key, cell in cells.items() if cell is not EMPTY}
            varied = varied or any(cell.spread is not None for cell in cells.values())
            rows.append(Row(entry.label, cells, group))
            if any(reason != "gold" for reason in stats[0].reasons):
                parts = ", ".join(f"{name} {k}" for name, k in _by_count(stats[0].reasons))
                notes.append(f"{entry.label} targets: {parts}.")
    caption = [
        "Measured under the untrained model given only the question. PPL: exp(mean NLL); HPR@k: share of tokens with "
        "perplexity above k; gold: targets that are the reference answer." + (" Means over seeds." if varied else "")
    ]
    explained = [
        "Accepted: the method's own answer was correct. From base: training tokens that are the untrained model's own "
        "choice, in dual-context decoding those that replaced a candidate. Weight 0: tokens that the static selection "
        "excludes."
    ]
    if counted:
        explained.append(note_help(counted))
    return Table(
        "targets",
        "Training targets",
        columns,
        rows,
        [*caption, *remarks(results)],
        remarks(results),
        notes=[Note(text) for text in (*explained, *notes) if text],
    )


def _seed_mean(values: Sequence[float], text: Callable[[float | None], str]) -> Cell:
    """The mean over seeds with its spread; empty without values."""
    if not values:
        return EMPTY
    spread = stdev(values) if len(set(values)) > 1 else None
    return Cell(text(fmean(values)), _finite(fmean(values)), spread=spread)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _by_count(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def reason_table(results: Sequence[RunResults]) -> Table:
    """Answers that failed otherwise than by being wrong, summed over seeds; only reasons that occur are columns."""
    usable(results)
    columns: dict[str, Column] = {}
    rows = []
    for group, run in zip(group_names(results), results, strict=True):
        for entry in entries(run):
            cells: dict[str, Cell] = {}
            for task in run.tasks:
                scores = entry.scores(task.name)
                for reason in FAILURES:
                    total = sum(one.reasons.get(reason, 0) for one in scores)
                    key = f"{task.name}:{reason}"
                    if total:
                        columns.setdefault(
                            key, Column(key, f"{task.name}\n{reason.replace('_', ' ')}", block=task.name)
                        )
                    if scores:
                        cells[key] = Cell(count(total), total, n=sum(one.n for one in scores))
            rows.append(Row(entry.label, cells, group))
    caption = [
        "Answers, summed over seeds: no answer could be extracted, generation stopped at the token limit, the time "
        "limit was reached, or an infrastructure error occurred. Other incorrect answers are not counted here."
    ]
    order = [f"{task.name}:{reason}" for task in task_infos(results) for reason in FAILURES]
    ordered = [columns[key] for key in order if key in columns]
    return Table("failures", "Unscored and truncated answers", ordered, rows if ordered else [], caption)


def group_table(results: Sequence[RunResults], by: str, *, baseline: str = BASE) -> Table:
    """Scores by ``level``, ``subject`` (or any other group that the items carry), or by ``seed``.

    Rows that lack seeds or items are marked, warned of and not ranked, as in the main table. Marks are against
    ``baseline``; a table by seed has no tests. Raises :class:`UsageError` where no task has such groups, and for a
    ``baseline`` that a run does not have.
    """
    usable(results)
    return _by_seed(results) if by == "seed" else _by_group(results, by, baseline)


def with_confidence(run: RunResults, task: str, scores: list[TaskScore]) -> list[TaskScore]:
    """The scores with their items grouped by quartile of the base's confidence in its own answers.

    Every row of the table is grouped by the same numbers, the base's, so that it is asked about the same items. No
    score where the base's confidence is not known or was in other items.
    """
    base = run.base.get(task)
    if base is None or not base.confidence:
        return []
    names = quartiles(base.confidence)
    return [replace(one, groups={CONFIDENCE: names}) for one in scores if one.item_hash == base.item_hash]


QUARTILES = ("Q1 least sure", "Q2", "Q3", "Q4 surest")


def quartiles(confidence: Sequence[float]) -> list[str]:
    """The quartile of every item, of :data:`QUARTILES`; items of equal confidence share a quartile."""
    if not confidence:
        return []
    cuts = np.quantile(confidence, [0.25, 0.5, 0.75])
    return [QUARTILES[int(place)] for place in np.searchsorted(cuts, confidence, side="left")]


def _by_seed(results: Sequence[RunResults]) -> Table:
    tasks = task_infos(results)
    rows: list[Row] = []
    partial: list[str] = []
    for group, run in zip(group_names(results), results, strict=True):
        for entry in entries(run):
            if lacking := _lacking(entry, run.tasks):
                partial.append(f"{entry.label}: {lacking}")
            named = [(entry.label, run.base)] if entry.is_base else []
            named += [(f"{entry.label} seed {one.seed}", one.scores) for one in entry.seed_arms()]
            for label, scores in named:
                cells: dict[str, Cell] = {}
                for task in (one for one in run.tasks if one.name in scores):
                    cell = _part_cell(task, [scores[task.name].values()])
                    cells[task.name] = cell if scores[task.name].n == task.n_items else _unsound(cell)
                whole = len(cells) == len(run.tasks) and all(cell.sound for cell in cells.values())
                rows.append(Row(label if whole else f"{label} {PARTIAL_MARK}", cells, group))
    columns = [_task_column(task, task.name, task.name) for task in tasks]
    caption = ["Percent with 95 % intervals over items."]
    return ranked(Table("by-seed", "Scores by seed", columns, rows, caption, run_warnings(results, partial)))


def _lacking(entry: Entry, tasks: Sequence[TaskInfo]) -> str:
    """What a row lacks, task by task; empty where it is complete."""
    return ", ".join(f"{task.name} {missing}" for task in tasks if (missing := entry.missing(task)))


def _unsound(cell: Cell) -> Cell:
    """The cell marked as standing on fewer items or seeds than its column: shown, never ranked."""
    return replace(cell, mark=cell.mark + PARTIAL_MARK, sound=False)


def _by_group(results: Sequence[RunResults], by: str, baseline: str) -> Table:
    listed = [(g, e) for g, run in zip(group_names(results), results, strict=True) for e in entries(run)]
    bases = {id(run): baseline_entry(run, baseline) for run in results}
    rows: list[Row] = []
    partial: list[str] = []
    offered: set[str] = {"seed"}
    sizes: dict[tuple[str, str], int] = {}
    # p of each row against the baseline's answers to the same items.
    tests: dict[tuple[int, str], float] = {}
    for group, entry in listed:
        cells: dict[str, Cell] = {}
        tasks = [task for task in entry.run.tasks if not task.retention]
        for task in tasks:
            scores = entry.scores(task.name)
            offered |= {name for one in scores for name in one.groups}
            offered |= {CONFIDENCE for one in scores if one.confidence}
            theirs = _compared(entry, bases[id(entry.run)], task, by)
            for name, members in _grouped(entry, task, by).items():
                key = f"{task.name}:{name}"
                cell = _part_cell(task, members)
                cells[key] = _unsound(cell) if entry.missing(task) else cell
                sizes[task.name, name] = max(sizes.get((task.name, name), 0), len(members[0]))
                if name in theirs:
                    test = compare(members, theirs[name], higher_is_better=task.higher_is_better)
                    tests[len(rows), key] = test.p
        lacking = _lacking(entry, tasks)
        if lacking:
            partial.append(f"{entry.label}: {lacking}")
        rows.append(Row(f"{entry.label} {PARTIAL_MARK}" if lacking else entry.label, cells, group))
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    for (index, key), p_holm in corrected.items():
        cell = rows[index].cells[key]
        rows[index].cells[key] = replace(cell, p=tests[index, key], p_holm=p_holm, mark=f"{stars(p_holm)}{cell.mark}")
    if not sizes:
        known = sorted(offered)
        raise UsageError(
            f"No task of this run has a {by} for its items.{did_you_mean(by, known)} Use {', '.join(known)}."
        )
    several = any(len(entry.seed_arms()) > 1 for _, entry in listed)
    lines = ["Percent with 95 % intervals over items" + (" (means over seeds within items)." if several else ".")]
    lines.append("Groups are small, so rely on the intervals rather than the ranks.")
    if tests:
        versus = next(base.label for base in bases.values() if base is not None)
        lines.append(
            f"* p < .05, ** p < .01 against {versus}, paired, after Holm's correction over {len(tests)} tests."
        )
    if by == CONFIDENCE:
        lines.append(
            "Items by quartile of the untrained model's confidence in its own answer: the geometric mean of its token "
            "probabilities, or for multiple choice the probability of its choice among the choices. Q1: least "
            "confident. Every row has the same items."
        )
    columns = [
        _task_column(task, f"{task.name}:{name}", f"{task.name}\n{by} {name}\nn = {sizes[task.name, name]}")
        for task in task_infos(results)
        for name in sorted((name for owner, name in sizes if owner == task.name), key=natural)
    ]
    return ranked(Table(f"by-{by}", f"Scores by {by}", columns, rows, lines, run_warnings(results, partial)))


def _grouped(entry: Entry, task: TaskInfo, by: str) -> dict[str, list[list[float]]]:
    """The item values of every group of a row, one list per seed."""
    scores = entry.scores(task.name)
    if by == CONFIDENCE:
        scores = with_confidence(entry.run, task.name, scores)
    if not scores or any(by not in one.groups or one.item_hash != scores[0].item_hash for one in scores):
        return {}
    names = scores[0].groups[by]
    return {
        name: [[v for v, own in zip(one.values(), names, strict=True) if own == name] for one in scores]
        for name in dict.fromkeys(names)
    }


def _compared(entry: Entry, base: Entry | None, task: TaskInfo, by: str) -> dict[str, list[list[float]]]:
    """The baseline's groups where the row can be paired with it, else none."""
    if base is None or base.label == entry.label or not pairable(entry.scores(task.name), base.scores(task.name)):
        return {}
    return _grouped(base, task, by)


def _task_column(task: TaskInfo, key: str, title: str) -> Column:
    return Column(key, title, "up" if task.higher_is_better else "down", task.name, ranked=True)


def natural(name: str) -> tuple[list[float], str]:
    """Sort key of a group's name: by the numbers in it, then by its letters (``1-3`` before ``4-6`` before ``11+``)."""
    digits = "".join(ch if ch.isdecimal() or ch == "." else " " for ch in name).split()
    return [float(part) for part in digits if part.replace(".", "", 1).isdecimal()], name


def _part_cell(task: TaskInfo, by_seed: list[list[float]]) -> Cell:
    items = [fmean(item) for item in zip(*by_seed, strict=True)]
    mean = fmean(items)
    # One seed, or items that all agree over all seeds, where the bootstrap would have width 0.
    binary = set(items) <= {0.0, 1.0} and (len(by_seed) == 1 or len(set(items)) == 1)
    interval = wilson(round(sum(items)), len(items)) if binary else bootstrap(items)
    cell = Cell(score(mean, task.percent), mean, bracket(interval, task.percent), n=len(items))
    return cell if interval is None else replace(cell, low=interval.low, high=interval.high)
