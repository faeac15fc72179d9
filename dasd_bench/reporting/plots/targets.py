"""Plots of training targets: perplexity of their tokens, and the share that the gate replaced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from dasd_bench.reporting.caption import gated_share
from dasd_bench.reporting.entries import entries
from dasd_bench.reporting.plots.source import Nothing, Plot, Source, series_name
from dasd_bench.reporting.plots.style import INK, legend_below, panels, styles
from dasd_bench.results.schema import Arm, TargetStats

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
        "of 0.25 nats, so that both axes are logarithmic. Right of the dashed line: high perplexity (HPR@2.5). "
        "Methods with the same targets share a line; means over seeds."
    )
    return Plot(kind, "Perplexity of target tokens", caption, "; ".join(words), figure)


@dataclass(frozen=True, slots=True)
class _Gated:
    """One gated arm: its threshold, the share of replaced tokens and the share of right answers, means over seeds."""

    tau: float
    replaced: float
    accepted: float


def replaced(sources: Sequence[Source]) -> Plot | Nothing:
    """Share of tokens that the gate took from the base against tau, one line per rule; beside it accepted answers."""
    kind = "replaced"
    lines: dict[str, list[_Gated]] = {}
    for source in sources:
        for arm in source.results.arms:
            point = _gated(arm)
            if point is not None:
                rule = str(arm.options.get("rule", arm.method))
                lines.setdefault(series_name(sources, source, rule), []).append(point)
    if not lines:
        return Nothing(kind, "No row of these runs has a gate with a threshold tau; add one with --method dasd.")
    taus = sorted({point.tau for points in lines.values() for point in points})
    if len(taus) < 2:
        return Nothing(
            kind,
            f"These runs have one value of τ ({taus[0]:g}), which makes no curve; "
            "--method dasd+tau=0.5,dasd+tau=0.7,dasd+tau=0.9 gives one.",
        )
    look = styles(lines)
    figure, (left, right) = panels(2, width=3.3, height=2.8)
    words = []
    for name, unsorted in lines.items():
        points = sorted(unsorted, key=lambda point: point.tau)
        style = look[name]
        for axis, values in (
            (left, [100 * point.replaced for point in points]),
            (right, [100 * point.accepted for point in points]),
        ):
            axis.plot(
                [point.tau for point in points],
                values,
                color=style.colour,
                marker=style.marker,
                linestyle=style.line,
                label=name,
            )
        words += [
            f"{name} tau {p.tau:g}: {100 * p.replaced:.1f} % replaced, {100 * p.accepted:.0f} % accepted"
            for p in points
        ]
    for axis, title in ((left, "tokens replaced, %"), (right, "answers accepted, %")):
        axis.set_xlabel("τ")
        axis.set_title(title)
        axis.set_ylim(bottom=0)
        axis.margins(x=0.12)
    right.set_ylim(0, 103)
    if len(taus) <= 8:
        for axis in (left, right):
            axis.set_xticks(taus, [f"{tau:g}" for tau in taus])
            axis.set_xlim(taus[0] - 0.1, taus[-1] + 0.1)
    legend_below(figure, left)
    caption = (
        "Left: share of the gated answers' tokens that were taken from the base, including rejected answers. Right: "
        "share of examples whose gated answer was correct and used unchanged. Means over seeds."
    )
    return Plot(kind, "Replaced tokens against τ", caption, "; ".join(words), figure)


def _gated(arm: Arm) -> _Gated | None:
    share = gated_share(arm)
    tau = arm.options.get("tau")
    if share is None or not isinstance(tau, (int, float)):
        return None
    stats = [one.target_stats for one in arm.seeds if one.target_stats is not None]
    return _Gated(float(tau), share, fmean(one.acceptance for one in stats))
