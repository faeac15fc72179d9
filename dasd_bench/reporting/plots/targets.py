"""Plots of training targets: perplexity of their tokens, and what methods count against one of their options."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

from dasd_bench.reporting.entries import entries
from dasd_bench.reporting.format import listing
from dasd_bench.reporting.notes import declared_notes, note_help, note_mean, note_text
from dasd_bench.reporting.plots.source import Nothing, Plot, Source, series_name
from dasd_bench.reporting.plots.style import INK, Style, legend_below, panels, styles
from dasd_bench.results.schema import Arm, NoteStats, TargetStats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HIGH_PPL = 2.5
"""The limit of the high-perplexity ratio that tables print."""


def ppl(sources: Sequence[Source]) -> Plot | Nothing:
    """Histogram of the target tokens' perplexity under the untrained model, one outline per method."""
    kind = "ppl"
    found: dict[tuple[float, ...], list[str]] = {}
    about: dict[tuple[float, ...], TargetStats] = {}
    edges: list[float] = []
    for source in sources:
        for entry in entries(source.results):
            stats = [one.target_stats for one in entry.seed_arms() if one.target_stats is not None]
            stats = [one for one in stats if one.histogram_counts and one.tokens]
            if not stats:
                continue
            edges = stats[0].histogram_edges
            if any(one.histogram_edges != edges for one in stats):
                continue
            shares = tuple(fmean(one.histogram_counts[i] / one.tokens for one in stats) for i in range(len(edges)))
            found.setdefault(shares, []).append(series_name(sources, source, entry.label))
            about.setdefault(shares, stats[0])
    if not found:
        return Nothing(kind, "These runs have no histogram of their targets.")
    if len(found) == 1 and sum(share > 0 for share in next(iter(found))) == 1:
        return Nothing(kind, "All tokens of these runs' targets have about the same perplexity, which makes no curve.")
    names = {shares: " = ".join(labels) for shares, labels in found.items()}
    look = styles(names.values())
    # Bins beyond the last one with a token are left out; the open bin ends one step further.
    last = max(max(i for i, share in enumerate(shares) if share) for shares in found)
    right = [*edges[1:], edges[-1] + 0.25]
    figure, (axis,) = panels(1, width=6.4, height=3.1)
    words = []
    for shares, name in names.items():
        style = look[name]
        centres = [math.exp((edges[i] + right[i]) / 2) for i in range(last + 1)]
        values = [100 * shares[i] for i in range(last + 1)]
        axis.stairs(
            values,
            [math.exp(e) for e in [*edges[: last + 1], right[last]]],
            color=style.colour,
            linestyle=style.line,
            linewidth=1.5,
            baseline=None,
            label=f"_{name}",
        )
        every = max(1, (last + 1) // 12)
        shown = [(x, y) for x, y in list(zip(centres, values, strict=True))[::every] if y > 0]
        axis.plot(
            [x for x, _ in shown],
            [y for _, y in shown],
            marker=style.marker,
            color=style.colour,
            linestyle="none",
            markersize=4.8,
        )
        axis.plot([], [], marker=style.marker, color=style.colour, linestyle=style.line, label=name)
        stats_of = about[shares]
        words.append(f"{name}: PPL {stats_of.ppl:.2f}, {100 * stats_of.hpr.get('2.5', math.nan):.0f} % above 2.5")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.axvline(HIGH_PPL, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
    axis.annotate(
        "2.5",
        (HIGH_PPL, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(3, -9),
        textcoords="offset points",
        fontsize=8,
        color=INK,
    )
    ticks = [t for t in (1, 2.5, 10, 100, 1000, 10_000, 100_000) if t <= math.exp(right[last])]
    axis.set_xticks(ticks, [f"{t:,g}" for t in ticks])
    axis.minorticks_off()
    axis.set_yticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
    smallest = min(share for shares in found for share in shares if share)
    axis.set_ylim(max(0.005, 100 * smallest * 0.6), 110)
    axis.set_xlabel("perplexity of a token, untrained model (log scale)")
    axis.set_ylabel("share of tokens, % (log)")
    legend_below(figure, axis)
    caption = (
        "Tokens of the training targets by their perplexity under the untrained model given the question alone; bins "
        "of 0.25 nats (the last one is open), both axes logarithmic. Right of the dashed line: high perplexity "
        "(HPR@2.5). Methods with the same targets share a line; means over seeds."
    )
    return Plot(kind, "Perplexity of target tokens", caption, "; ".join(words), figure)


@dataclass(frozen=True, slots=True)
class _Point:
    """One arm: the option's value, the note's and the share of accepted answers, means over seeds."""

    x: float
    note: float
    accepted: float


_Value = Callable[[_Point], float]


def _scaled(scale: int, point: _Point) -> float:
    return scale * point.note


def notes(sources: Sequence[Source]) -> Plot | Nothing:
    """What methods count against the option they name for it, one line per method; beside it accepted answers."""
    kind = "notes"
    every = [note for note in declared_notes([source.results for source in sources]) if note.against]
    if not every:
        return Nothing(kind, "No row of these runs counts anything against an option; add one with --method dasd.")
    lines = {note.name: _lines(sources, note) for note in every}
    single = [note for note in every if all(len({p.x for p in line}) < 2 for line in lines[note.name].values())]
    drawn = [note for note in every if note not in single]
    if not drawn:
        option = single[0].against
        values = ", ".join(f"{x:g}" for x in sorted({p.x for line in lines[single[0].name].values() for p in line}))
        return Nothing(
            kind,
            f"Each row of these runs has one value of {option} ({values}), which makes no curve; name the method "
            f"several times, each with another +{option}=VALUE.",
        )
    look = styles(dict.fromkeys(name for note in drawn for name in lines[note.name]))
    options = list(dict.fromkeys(note.against for note in drawn))
    figure, axes = panels(len(drawn) + len(options), width=3.3, height=2.8)
    words = []
    for note, axis in zip(drawn, axes, strict=False):
        scale = 100 if note.how == "share" else 1
        _draw(axis, lines[note.name], look, note.against, partial(_scaled, scale))
        axis.set_title(f"{note.title}, %" if scale == 100 else note.title)
        words += [
            f"{name} {note.against} {p.x:g}: {note.title} {note_text(note, p.note)}{' %' if scale == 100 else ''}, "
            f"{100 * p.accepted:.0f} % accepted"
            for name, points in lines[note.name].items()
            for p in points
        ]
    for option, axis in zip(options, axes[len(drawn) :], strict=True):
        shared = next(lines[note.name] for note in drawn if note.against == option)
        _draw(axis, shared, look, option, lambda point: 100 * point.accepted)
        axis.set_title("answers accepted, %")
        axis.set_ylim(0, 103)
    legend_below(figure, *axes)
    caption = (
        f"{note_help(drawn)} Answers accepted: share of examples whose target is the method's own correct answer. "
        "Means over seeds."
    ).lstrip()
    return Plot(kind, f"Method counts against {listing(options)}", caption, "; ".join(words), figure)


def _draw(axis: Axes, lines: Mapping[str, list[_Point]], look: Mapping[str, Style], option: str, y: _Value) -> None:
    for name, points in lines.items():
        style = look[name]
        axis.plot(
            [point.x for point in points],
            [y(point) for point in points],
            color=style.colour,
            marker=style.marker,
            linestyle=style.line,
            label=name,
        )
    axis.set_xlabel(option)
    axis.set_ylim(bottom=0)
    axis.margins(x=0.12)
    values = sorted({point.x for points in lines.values() for point in points})
    if len(values) <= 8:
        axis.set_xticks(values, [f"{value:g}" for value in values])


def _lines(sources: Sequence[Source], note: NoteStats) -> dict[str, list[_Point]]:
    """The note's points in rising order, by line: a method, with those of its other options that differ."""
    found: list[tuple[Source, Arm, _Point]] = []
    for source in sources:
        for arm in source.results.arms:
            value, x = note_mean(arm, note.name), arm.options.get(note.against)
            if value is not None and isinstance(x, (int, float)):
                stats = [one.target_stats for one in arm.seeds if one.target_stats is not None]
                found.append((source, arm, _Point(float(x), value, fmean(one.acceptance for one in stats))))
    lines: dict[str, list[_Point]] = {}
    for source, arm, point in found:
        same = [other.options for _, other, _ in found if other.method == arm.method]
        own = [
            f"+{name}={value}"
            for name, value in arm.options.items()
            if name != note.against and any(options.get(name) != value for options in same)
        ]
        lines.setdefault(series_name(sources, source, arm.method + "".join(own)), []).append(point)
    return {name: sorted(points, key=lambda point: point.x) for name, points in lines.items()}
