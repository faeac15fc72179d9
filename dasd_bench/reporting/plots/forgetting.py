"""Accuracy on what was trained against what happened to the rest: the change on other tasks, and the drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from dasd_bench.methods.base import BASE
from dasd_bench.reporting.entries import Entry, entries, find_entry
from dasd_bench.reporting.plots.source import Nothing, Plot, Source, partial_note, series_name
from dasd_bench.reporting.plots.style import INK, dot, legend_below, panels, styles
from dasd_bench.reporting.retention import js_distance
from dasd_bench.reporting.scores import average_change, average_interval, outside
from dasd_bench.results.schema import RunResults
from dasd_bench.stats.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEPT_AXIS = "change on tasks not trained on, points"
DRIFT_AXIS = "minus drift, JS distance to the base (left: farther)"


@dataclass(frozen=True, slots=True)
class Point:
    """One row: x (change in points, or minus the drift in nats), y (accuracy in percent), and their intervals."""

    name: str
    x: float
    y: float
    across: Interval | None
    up: Interval | None


def forgetting(sources: Sequence[Source]) -> Plot | Nothing:
    """Accuracy on the trained tasks against the change on the others, and against drift where it was measured."""
    kind = "forgetting"
    kept: list[Point] = []
    drifted: list[Point] = []
    for source in sources:
        for entry in entries(source.results):
            name = series_name(sources, source, entry.label)
            if (point := _kept(name, source.results, entry)) is not None:
                kept.append(point)
            if (point := _drifted(name, source.results, entry)) is not None:
                drifted.append(point)
    if not kept and not drifted:
        return Nothing(kind, _why_no_point([source.results for source in sources]))
    kept, drifted = (points if len(points) > 1 else [] for points in (kept, drifted))
    if not kept and not drifted:
        return Nothing(kind, "These runs have a single row with all its scores, so there is nothing to compare.")
    look = styles(point.name for point in [*kept, *drifted])
    shown = [(points, label) for points, label in ((kept, KEPT_AXIS), (drifted, DRIFT_AXIS)) if points]
    figure, axes = panels(len(shown), width=5.4 if len(shown) == 1 else 3.9, height=3.2)
    for axis, (points, label) in zip(axes, shown, strict=True):
        front = pareto_front([(point.x, point.y) for point in points])
        for point in points:
            filled = (point.x, point.y) in front
            errors = {"xerr": _error(point.x, point.across), "yerr": _error(point.y, point.up)}
            dot(axis, point.x, point.y, look[point.name], point.name, filled=filled, **errors)
        axis.axvline(0, color=INK, linewidth=0.7, alpha=0.5)
        axis.set_xlabel(label)
        axis.margins(0.12)
        _draw_front(axis, front)
    axes[0].set_ylabel("accuracy on trained tasks, %")
    legend_below(figure, *axes)
    others = sorted({task.name for one in sources for task in one.results.tasks if outside(task)})
    caption = (
        "Up and to the right is better. Filled: on the Pareto front (no other row is better on one axis and at least "
        "as good on the other); the line bounds the region that the front dominates. Bars: 95 % intervals over items. "
        + (f"Not trained on: {', '.join(others)}; mean change from base, in points. " if kept else "")
        + ("Drift: Jensen-Shannon distance to the base per token of held-out prompts, negated. " if drifted else "")
        + f"Means over seeds.{partial_note(sources)}"
    )
    alt = [f"{p.name}: {p.y:.1f} % on trained tasks, {p.x:+.1f} points on the others" for p in kept]
    alt += [f"{p.name}: {p.y:.1f} % on trained tasks, drift {abs(p.x):.3f}" for p in drifted]
    return Plot(kind, "Accuracy against forgetting", caption, "; ".join(alt), figure)


def _error(value: float, interval: Interval | None) -> list[list[float]] | None:
    """The distances to an interval's ends, as matplotlib takes them."""
    if interval is None:
        return None
    return [[max(0.0, value - 100 * interval.low)], [max(0.0, 100 * interval.high - value)]]


def _drifted(name: str, run: RunResults, entry: Entry) -> Point | None:
    """Minus the mean distance to the base; the base is at 0."""
    trained = [task for task in run.tasks if not outside(task)]
    if run.base_drift is None or not trained or any(entry.missing(task) for task in trained):
        return None
    if not all(task.percent for task in trained):
        return None
    drifts = [run.base_drift] if entry.is_base else [one.drift for one in entry.seed_arms() if one.drift is not None]
    if not drifts or len(drifts) < len(entry.seed_arms()):
        return None
    distance = 0.0 if entry.is_base else js_distance(drifts)[0]
    scores = [entry.scores(task.name) for task in trained]
    accuracy = 100 * fmean(fmean(one.mean for one in found) for found in scores)
    return Point(name, -distance, accuracy, None, average_interval(trained, scores))


def _kept(name: str, run: RunResults, entry: Entry) -> Point | None:
    """The mean change on tasks outside training."""
    if any(entry.missing(task) for task in run.tasks) or not all(task.percent for task in run.tasks):
        return None
    trained = [task for task in run.tasks if not outside(task)]
    others = [task for task in run.tasks if outside(task) and task.name in run.base]
    if not trained or not others:
        return None
    change = fmean(fmean(one.mean for one in entry.scores(task.name)) - run.base[task.name].mean for task in others)
    paired = None if entry.is_base else average_change(entry, find_entry(run, BASE), others)
    scores = [entry.scores(task.name) for task in trained]
    accuracy = fmean(fmean(one.mean for one in found) for found in scores)
    across = None if paired is None else paired[1]
    return Point(name, 100 * change, 100 * accuracy, across, average_interval(trained, scores))


def _why_no_point(results: Sequence[RunResults]) -> str:
    """Why no row has a place in the figure of accuracy against forgetting."""
    tasks = [task for run in results for task in run.tasks]
    if not any(map(outside, tasks)):
        return (
            "These runs have no retention task (one that is evaluated and not trained on), so forgetting is unknown; "
            "a run with --retention all has them."
        )
    if all(map(outside, tasks)):
        return "These runs evaluated no task that they were trained on."
    if other := sorted({task.name for task in tasks if not task.percent}):
        return f"A mean over tasks needs shares of right answers, which {', '.join(other)} does not measure."
    return "No row of these runs finished all its trained and retention tasks."


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other point beats (more is better in both), by rising x."""
    front = [
        one
        for one in set(points)
        if not any(other[0] >= one[0] and other[1] >= one[1] and other != one for other in points)
    ]
    return sorted(front)


def _draw_front(axis: Axes, front: list[tuple[float, float]]) -> None:
    """The border of what the front beats: level to the left of a point, then down to the next one."""
    left, bottom = axis.get_xlim()[0], axis.get_ylim()[0]
    corners = [(left, front[0][1])]
    for (x, y), below in zip(front, [*(y for _, y in front[1:]), bottom], strict=True):
        corners += [(x, y), (x, below)]
    axis.plot([x for x, _ in corners], [y for _, y in corners], color=INK, linewidth=0.9, alpha=0.5, zorder=1)
    axis.set_xlim(left=left)
    axis.set_ylim(bottom=bottom)
