"""Plots of scores: by method and task, by difficulty, against cost. Their numbers are those of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from dasd_bench.errors import UsageError
from dasd_bench.methods.base import BASE
from dasd_bench.reporting.details import group_table
from dasd_bench.reporting.entries import Entry, entries
from dasd_bench.reporting.plots.source import Nothing, Plot, Source, partial_note, series_name
from dasd_bench.reporting.plots.style import INK, Style, dot, legend_below, panels, styles
from dasd_bench.reporting.scores import run_table
from dasd_bench.reporting.table import EMPTY, Cell, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COUNTED_STAGES = ("targets", "score", "train")
"""Stages that a method pays for; evaluation is not its cost."""


def scores(sources: Sequence[Source]) -> Plot | Nothing:
    """The main result: the score of every row on every task with its 95 % interval over items."""
    kind = "scores"
    table = run_table([one.results for one in sources])
    names = _names(sources, table.rows)
    shares = {task.name for one in sources for task in one.results.tasks if task.percent and not task.retention}
    tasks = [column.key for column in table.columns if column.key in shares]
    present = [
        (name, row)
        for name, row in zip(names, table.rows, strict=True)
        if any(row.cell(task).value is not None and row.cell(task).sound for task in tasks)
    ]
    if not tasks:
        return Nothing(kind, "No task of these runs is scored by a share of correct answers.")
    if len(present) < 2:
        return Nothing(kind, "These runs have a single finished row, so there is nothing to compare.")
    if len(tasks) > 1 and sum(row.cell("average").value is not None for _, row in present) > 1:
        tasks.append("average")
    look = styles(name for name, _ in present)
    figure, (axis,) = panels(1, width=max(5.0, 1.0 + len(tasks) * max(0.9, 0.16 * len(present))), height=3.2)
    step = 0.76 / len(present)
    words, ends = [], []
    for place, (name, row) in enumerate(present):
        cells = [(x, row.cell(task)) for x, task in enumerate(tasks)]
        points = [(x, cell) for x, cell in cells if cell.value is not None and cell.sound]
        shift = (place - (len(present) - 1) / 2) * step
        _points(axis, [(x + shift, cell) for x, cell in points], look[name], name)
        ends += [end for _, cell in points for end in (cell.low, cell.high, cell.value) if end is not None]
        words.append(f"{name}: " + ", ".join(f"{tasks[x]} {100 * (cell.value or 0):.1f}" for x, cell in points))
    axis.set_xticks(range(len(tasks)), tasks)
    axis.set_xlim(-0.6, len(tasks) - 0.4)
    axis.grid(axis="x", visible=False)
    for edge in range(1, len(tasks)):
        axis.axvline(edge - 0.5, color=INK, linewidth=0.5, alpha=0.25)
    axis.set_ylim(max(-2.0, 100 * min(ends) - 5), min(102.0, 100 * max(ends) + 5))
    axis.set_ylabel("correct answers, %")
    legend_below(figure, axis)
    caption = (
        "Score by method and task with 95 % intervals over items; means over seeds. Overlapping intervals do not rule "
        f"out a significant paired difference: the table has the tests.{partial_note(sources)}"
    )
    return Plot(kind, "Scores by method and task", caption, "; ".join(words), figure)


def difficulty(sources: Sequence[Source]) -> Plot | Nothing:
    """Accuracy by difficulty level (by subject where no task has levels) with 95 % intervals over items."""
    kind = "difficulty"
    for by in ("level", "subject"):
        try:
            table = group_table([one.results for one in sources], by)
            break
        except UsageError:
            continue
    else:
        return Nothing(kind, "No task of these runs has a difficulty level or a subject for its items.")
    names = _names(sources, table.rows)
    look = styles(names)
    sound = {key for row in table.rows for key, cell in row.cells.items() if cell.sound}
    tasks = list(dict.fromkeys(column.block for column in table.columns if column.key in sound))
    if not tasks:
        return Nothing(kind, f"No row of these runs finished a task that has a {by} for its items.")
    # A task whose items are all of one group has a single place on its axis.
    tasks = [task for task in tasks if sum(column.block == task for column in table.columns) > 1]
    if not tasks:
        return Nothing(kind, f"All items of these runs have the same {by}.")
    short = any(not cell.sound for row in table.rows for cell in row.cells.values())
    most = max(sum(column.block == task for column in table.columns) for task in tasks)
    figure, axes = panels(
        len(tasks), width=max(3.6, most * max(0.62, 0.085 * len(names)) + 1.2), across=2 if most > 4 else 3
    )
    words = []
    for axis, task in zip(axes, tasks, strict=True):
        columns = [column for column in table.columns if column.block == task]
        groups = [column.key.partition(":")[2] for column in columns]
        sizes = [sorted({n for row in table.rows if (n := row.cell(column.key).n)}) for column in columns]
        present = [
            (name, row)
            for name, row in zip(names, table.rows, strict=True)
            if any(row.cell(column.key).value is not None and row.cell(column.key).sound for column in columns)
        ]
        step = 0.72 / len(present)
        for place, (name, row) in enumerate(present):
            cells = [row.cell(column.key) for column in columns]
            points = [(x, cell) for x, cell in enumerate(cells) if cell.value is not None and cell.sound]
            if points:
                shift = (place - (len(present) - 1) / 2) * step
                _points(axis, [(x + shift, cell) for x, cell in points], look[name], name)
                shown = ", ".join(f"{groups[x]} {100 * (cell.value or 0):.0f}" for x, cell in points)
                words.append(f"{task}, {name}: {shown}")
        axis.set_xticks(
            range(len(groups)),
            [f"{g}\nn={n[0]}" + (f"–{n[-1]}" if len(n) > 1 else "") for g, n in zip(groups, sizes, strict=True)],
        )
        axis.set_xlim(-0.6, len(groups) - 0.4)
        axis.grid(axis="x", visible=False)
        for edge in range(1, len(groups)):
            axis.axvline(edge - 0.5, color=INK, linewidth=0.5, alpha=0.25)
        axis.set_xlabel("difficulty level" if by == "level" else "subject")
        axis.set_title(task)
    _percent_axes(axes)
    legend_below(figure, *axes)
    caption = (
        f"Share of correct answers by {by}, with 95 % intervals over items (Wilson for one seed, bootstrap of item "
        f"means for several). Groups with a small n have wide intervals.{partial_note(sources)}"
        + (" Rows with missing seeds or items are omitted." if short else "")
    )
    return Plot(kind, f"Accuracy by {by}", caption, "; ".join(words), figure)


def _names(sources: Sequence[Source], rows: Sequence[Row]) -> list[str]:
    """The rows' names in a legend; the table has one row per entry, in the order of the runs."""
    found = [series_name(sources, source, entry.label) for source in sources for entry in entries(source.results)]
    assert len(found) == len(rows)
    return found


def _points(axis: Axes, points: list[tuple[float, Cell]], style: Style, name: str) -> None:
    values = [100 * (cell.value or 0.0) for _, cell in points]
    low = [max(0.0, v - 100 * (v / 100 if c.low is None else c.low)) for v, (_, c) in zip(values, points, strict=True)]
    high = [
        max(0.0, 100 * (v / 100 if c.high is None else c.high) - v) for v, (_, c) in zip(values, points, strict=True)
    ]
    axis.errorbar(
        [x for x, _ in points],
        values,
        yerr=[low, high],
        fmt=style.marker,
        color=style.colour,
        markerfacecolor=style.colour,
        markeredgecolor=style.colour,
        markeredgewidth=1.6 if style.marker == "_" else 0.8,
        markersize=9 if style.marker == "_" else 5.5,
        elinewidth=1.1,
        label=name,
        linestyle="none",
    )


def _percent_axes(axes: Sequence[Axes]) -> None:
    for index, axis in enumerate(axes):
        axis.set_ylim(-3, 103)
        if index == 0:
            axis.set_ylabel("correct answers, %")


def cost(sources: Sequence[Source]) -> Plot | Nothing:
    """Average accuracy against the seconds that one seed of a method takes: targets, scores and training."""
    kind = "cost"
    points = []
    for source in sources:
        table = run_table([source.results])
        for entry, row in zip(entries(source.results), table.rows, strict=True):
            found, cell = _cost(entry), _overall(source, row)
            if found is not None and cell.value is not None and cell.sound:
                points.append((series_name(sources, source, entry.label), found, cell))
    if not points:
        return Nothing(kind, "No row of these runs has all its scores and the times of its stages.")
    if len(points) < 2:
        return Nothing(kind, "These runs have a single trained row with its times, so there is nothing to compare.")
    look = styles(name for name, _, _ in points)
    figure, (axis,) = panels(1, width=5.4, height=3.4)
    words = []
    for name, (seconds, whole), cell in points:
        value = 100 * (cell.value or 0.0)
        yerr = None
        if cell.low is not None and cell.high is not None:
            yerr = [[max(0.0, value - 100 * cell.low)], [max(0.0, 100 * cell.high - value)]]
        dot(axis, seconds, value, look[name], name, filled=whole, yerr=yerr)
        words.append(f"{name}: {value:.1f} % at {'' if whole else 'at least '}{seconds:.1f} s")
    for source in sources:
        base = next((row for row in run_table([source.results]).rows if row.label == BASE), None)
        level = None if base is None else _overall(source, base).value
        if level is not None:
            name = series_name(sources, source, BASE)
            axis.axhline(100 * level, color=INK, linewidth=1.0, linestyle=(0, (1, 2.2)), label=f"{name} (no cost)")
    axis.margins(y=0.12)
    # Set from the data: a limit set before the margins would switch them off and cut points away.
    longest = max(found[0] for _, found, _ in points)
    axis.set_xlim(-0.02 * longest, 1.08 * longest)
    axis.set_xlabel("seconds for one seed: targets, scores, training")
    axis.set_ylabel("average accuracy, %")
    legend_below(figure, axis)
    hollow = (
        ""
        if all(found[1] for _, found, _ in points)
        else " Hollow: some stages were reused from the store, so the true cost is higher (run with an empty --store)."
    )
    caption = (
        "Wall time of one seed on the run's machine: targets and their scores in full, even where seeds share them, "
        "and training; means over seeds, without evaluation. Bars: 95 % interval over items."
        f"{hollow}{partial_note(sources)}"
    )
    return Plot(kind, "Cost against accuracy", caption, "; ".join(words), figure)


def _overall(source: Source, row: Row) -> Cell:
    """The average over tasks, or the score of the only task."""
    if row.cell("average").value is not None:
        return row.cell("average")
    scored = [task for task in source.results.tasks if not task.retention]
    return row.cell(scored[0].name) if len(scored) == 1 else EMPTY


def _cost(entry: Entry) -> tuple[float, bool] | None:
    """Seconds that one seed alone would take, and whether every part of them was measured.

    Targets and scores that seeds share were made once and found again by the later ones: a seed's share is what it
    took to make them, the mean over the seeds that did. Training keeps its own time in the store.
    """
    seeds = entry.seed_arms()
    stages = [s for s in entry.run.stages if s.arm == entry.label and s.name in COUNTED_STAGES]
    if not seeds or not stages:
        return None
    trained = {one.seed: one.train_stats.seconds for one in seeds if one.train_stats is not None}
    whole = True
    total = 0.0
    for name in dict.fromkeys(stage.name for stage in stages):
        mine = [stage for stage in stages if stage.name == name]
        known = [stage.seconds for stage in mine if not stage.reused]
        if name == "train":
            known += [trained[stage.seed] for stage in mine if stage.reused and stage.seed in trained]
        whole = whole and bool(known)
        total += fmean(known) if known else 0.0
    return total, whole
