"""Scores along training: where a method peaks, and whether it collapses after that."""

from __future__ import annotations

from collections.abc import Sequence

from dasd_bench.methods.base import BASE
from dasd_bench.reporting.along import Stop, stops
from dasd_bench.reporting.entries import entries
from dasd_bench.reporting.plots.source import Nothing, Plot, Source, partial_note, series_name
from dasd_bench.reporting.plots.style import INK, legend_below, panels, styles


def along(sources: Sequence[Source]) -> Plot | Nothing:
    """Score against the fraction of training, one panel per task: a line per method, from the untrained model on."""
    kind = "along"
    ways: dict[str, tuple[Source, list[Stop]]] = {}
    for source in sources:
        for entry in entries(source.results):
            if way := stops(entry):
                ways[series_name(sources, source, entry.label)] = source, way
    tasks = {
        task.name: task
        for source, way in ways.values()
        for task in source.results.tasks
        if any(task.name in stop.scores for stop in way)
    }
    if not tasks:
        return Nothing(
            kind,
            "These runs evaluated no adapter during training; a run with --set training.evaluate_at=0.25,0.5,1 does.",
        )
    look = styles(ways)
    figure, axes = panels(len(tasks))
    words = []
    for axis, (name, task) in zip(axes, tasks.items(), strict=True):
        scale = 100 if task.percent else 1
        for label, (source, way) in ways.items():
            scored = [(stop.fraction, stop.mean(name)) for stop in way if name in stop.scores]
            if not scored:
                continue
            base = source.results.base.get(name)
            points = [*([(0.0, base.mean)] if base is not None else []), *scored]
            style = look[label]
            axis.plot(
                [100 * fraction for fraction, _ in points],
                [scale * mean for _, mean in points],
                color=style.colour,
                linestyle=style.line,
                marker=style.marker,
                label=label,
            )
            told = ", ".join(f"{scale * mean:.1f} at {100 * fraction:g} %" for fraction, mean in points)
            words.append(f"{label} on {name}: {told}")
        levels = {one.results.base[name].mean for one, _ in ways.values() if name in one.results.base}
        for level in sorted(levels):
            axis.axhline(scale * level, color=INK, linewidth=1.0, linestyle=(0, (1, 2.2)), label=BASE)
        axis.set_title(f"{name}, %" if task.percent else name)
        axis.set_xlabel("training done, %")
    legend_below(figure, *axes)
    caption = (
        "Score of the adapter at fractions of training; 0 % is the untrained model, 100 % the final adapter "
        f"(with early stopping the best one). Means over seeds.{partial_note(sources)}"
    )
    return Plot(kind, "Scores along training", caption, "; ".join(words), figure)
