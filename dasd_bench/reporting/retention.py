"""The retention table of a run: change from base on tasks outside training, and drift from base."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

from dasd_bench.reporting.caption import left_out_line
from dasd_bench.reporting.entries import Entry, entries, group_names, pairable, usable, values
from dasd_bench.reporting.format import bracket, listing, number, score, signed
from dasd_bench.reporting.scores import item_interval, outside
from dasd_bench.reporting.table import Cell, Column, Note, Row, Table
from dasd_bench.results.schema import Drift, RunResults, TaskInfo
from dasd_bench.stats.clustered import mean_relative_change, ratio_bootstrap
from dasd_bench.stats.intervals import Interval, bootstrap
from dasd_bench.stats.multiple import holm, stars
from dasd_bench.stats.paired import Paired, compare

Measure = Callable[[Sequence[Drift]], tuple[float, Interval | None]]


def retention_tables(results: Sequence[RunResults]) -> list[Table]:
    """One table for every run that has retention sets: a row per set, a column per method."""
    names = group_names(results)
    several = len(results) > 1
    return [
        _table(run, f" ({name})" if several else "")
        for name, run in zip(names, results, strict=True)
        if any(task.retention for task in run.tasks)
    ]


def _table(run: RunResults, suffix: str) -> Table:
    usable([run])
    listed = entries(run)
    base = listed[0] if listed and listed[0].is_base else None
    arms = [entry for entry in listed if not entry.is_base]
    # Where nothing was trained every task is outside, and the table of scores has them.
    tasks = [task for task in run.tasks if (outside(task) if arms else task.retention)]
    tests = _tests(tasks, base, arms)
    marks = dict(zip(tests, map(stars, holm([test.p for test in tests.values()])), strict=True))
    rows = [_set_row(task, base, arms, tests, marks) for task in tasks]
    rows += _summary_rows(tasks, base, arms)
    rows += _drift_rows(run, arms)
    columns = [Column("n", "items"), Column("base", "base")]
    columns += [Column(entry.label, f"{entry.label}\nchange") for entry in arms]
    return Table(
        "retention",
        f"Retention{suffix}",
        columns,
        rows,
        _caption(tests, arms),
        _warnings(tasks, arms),
        "set",
        _notes(run, tasks, arms),
    )


def _tests(tasks: Sequence[TaskInfo], base: Entry | None, arms: Sequence[Entry]) -> dict[tuple[str, str], Paired]:
    found = {}
    for task in tasks:
        for entry in arms if base is not None else []:
            ours, theirs = entry.scores(task.name), base.scores(task.name) if base is not None else []
            if pairable(ours, theirs):
                found[task.name, entry.label] = compare(
                    values(ours), values(theirs), higher_is_better=task.higher_is_better
                )
    return found


def _set_row(
    task: TaskInfo,
    base: Entry | None,
    arms: Sequence[Entry],
    tests: dict[tuple[str, str], Paired],
    marks: dict[tuple[str, str], str],
) -> Row:
    cells = {"n": Cell(str(task.n_items), task.n_items)}
    before = base.scores(task.name) if base is not None else []
    if before:
        interval = item_interval(task, before)
        cells["base"] = _cell(score(before[0].mean, task.percent), before[0].mean, interval, task.percent, sign=False)
    for entry in arms:
        test = tests.get((task.name, entry.label))
        if test is not None:
            cell = _cell(signed(test.difference, task.percent), test.difference, test.interval, task.percent, sign=True)
            cells[entry.label] = replace(cell, n=test.n, p=test.p, mark=marks[task.name, entry.label])
    return Row(task.name, cells)


def _cell(text: str, value: float, interval: Interval | None, percent: bool, *, sign: bool) -> Cell:
    cell = Cell(text, value, bracket(interval, percent, sign=sign))
    return cell if interval is None else replace(cell, low=interval.low, high=interval.high)


def _summary_rows(tasks: Sequence[TaskInfo], base: Entry | None, arms: Sequence[Entry]) -> list[Row]:
    """Backward transfer: the mean over the sets of each one's relative change, with its interval over items."""
    cells = {}
    for entry in arms if base is not None else []:
        pairs = []
        for task in tasks:
            ours, theirs = entry.scores(task.name), base.scores(task.name) if base is not None else []
            if pairable(ours, theirs):
                after = [fmean(item) for item in zip(*values(ours), strict=True)]
                pairs.append((after, theirs[0].values()))
        # A relative change means nothing where the base was at 0.
        usable_pairs = [pair for pair in pairs if sum(pair[1])]
        found = mean_relative_change(usable_pairs) if len(pairs) == len(tasks) else None
        if found is not None:
            cells[entry.label] = _cell(signed(found[0]), found[0], found[1], True, sign=True)
    return [Row("mean relative change (BWT) %", cells)] if cells else []


def _drift_rows(run: RunResults, arms: Sequence[Entry]) -> list[Row]:
    if run.base_drift is None:
        return []
    rows = []
    for label, measure, digits in (
        ("PPL of base on own outputs", output_ppl, 2),
        ("JS distance to base", js_distance, 3),
        ("JS divergence to base, nats", js_divergence, 4),
        ("tokens per output", output_length, 1),
    ):
        cells = {"n": Cell(str(len(run.base_drift.tasks)), len(run.base_drift.tasks))}
        cells["base"] = _drift_cell(measure, [run.base_drift], digits)
        for entry in arms:
            drifts = [one.drift for one in entry.seed_arms() if one.drift is not None]
            if drifts and len(drifts) == len(entry.seed_arms()):
                cells[entry.label] = _drift_cell(measure, drifts, digits)
        rows.append(Row(label, cells))
    return rows


def _drift_cell(measure: Measure, drifts: Sequence[Drift], digits: int) -> Cell:
    value, interval = measure(drifts)
    if interval is None or interval.high == interval.low:
        return Cell(number(value, digits), value)
    detail = f"[{number(interval.low, digits)}, {number(interval.high, digits)}]"
    return Cell(number(value, digits), value, detail, interval.low, interval.high)


def _over_seeds(drifts: Sequence[Drift], get: Callable[[Drift], list[float]]) -> list[float]:
    """Per prompt, summed over seeds: prompts are what is drawn, the seeds of one prompt stay together."""
    return [math.fsum(column) for column in zip(*(get(drift) for drift in drifts), strict=True)]


def output_ppl(drifts: Sequence[Drift]) -> tuple[float, Interval | None]:
    """exp of the base's mean nll per token of the model's own outputs, with prompts as clusters."""
    totals = _over_seeds(drifts, lambda drift: drift.output_nll)
    sizes = _over_seeds(drifts, lambda drift: [float(count) for count in drift.output_tokens])
    interval = ratio_bootstrap(totals, sizes)
    ends = Interval(math.exp(interval.low), math.exp(interval.high), interval.level, interval.method)
    return math.exp(math.fsum(totals) / math.fsum(sizes)), ends


def js_distance(drifts: Sequence[Drift]) -> tuple[float, Interval | None]:
    """Mean over tokens of the square root of the Jensen-Shannon divergence; prompts are clusters."""
    return _token_mean(drifts, lambda drift: drift.js_distance)


def js_divergence(drifts: Sequence[Drift]) -> tuple[float, Interval | None]:
    """Mean over tokens of the Jensen-Shannon divergence in nats; prompts are clusters."""
    return _token_mean(drifts, lambda drift: drift.js_divergence)


def output_length(drifts: Sequence[Drift]) -> tuple[float, Interval | None]:
    """Mean tokens of an output."""
    means = [
        total / len(drifts) for total in _over_seeds(drifts, lambda drift: [float(t) for t in drift.output_tokens])
    ]
    return fmean(means), bootstrap(means)


def _token_mean(drifts: Sequence[Drift], get: Callable[[Drift], list[float]]) -> tuple[float, Interval | None]:
    def totals(drift: Drift) -> list[float]:
        return [mean * count for mean, count in zip(get(drift), drift.base_tokens, strict=True)]

    summed = _over_seeds(drifts, totals)
    sizes = _over_seeds(drifts, lambda drift: [float(count) for count in drift.base_tokens])
    return math.fsum(summed) / math.fsum(sizes), ratio_bootstrap(summed, sizes)


def _caption(tests: dict[tuple[str, str], Paired], arms: Sequence[Entry]) -> list[str]:
    if not arms:
        return ["Scores in percent with 95 % intervals over items; no method was trained in this run."]
    lines = [
        "Tasks outside training. base: score in percent; methods: change from base in points (mean over seeds) with "
        "95 % intervals over items."
    ]
    if tests:
        kinds = listing(sorted({test.test for test in tests.values()}))
        lines.append(f"* p < .05, ** p < .01 against base ({kinds}, Holm's correction for {len(tests)} tests).")
    return lines


def _notes(run: RunResults, tasks: Sequence[TaskInfo], arms: Sequence[Entry]) -> list[Note]:
    lines = []
    if arms:
        lines.append(
            "BWT: mean over the sets of (method - base) / base. A set where base is at chance level can hardly show "
            "forgetting: its relative change is mostly noise."
        )
        if left_out := left_out_line(run, tasks):
            lines.append(left_out)
    if run.base_drift is not None:
        lines.append(
            "Drift needs no reference answers: PPL of base on the model's own outputs for held-out prompts (for base, "
            "on its own outputs), and the Jensen-Shannon distance between the two models' next-token distributions "
            "along base's outputs, mean over tokens (0 to .83)."
        )
    settings = [
        f"{task.name}: {task.metric}, {task.num_fewshot}-shot, "
        f"{'comparable with lm-eval' if task.comparable else 'own variant'}"
        for task in tasks
    ]
    return [Note(text) for text in [*lines, f"{'; '.join(settings)}."]]


def _warnings(tasks: Sequence[TaskInfo], arms: Sequence[Entry]) -> list[str]:
    lacking = [
        f"{entry.label}: {task.name} {missing}" for entry in arms for task in tasks if (missing := entry.missing(task))
    ]
    return [f"Retention is unfinished: {'; '.join(lacking)}."] if lacking else []
