"""Training curves, from every seed's ``train/metrics.jsonl``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from dasd_bench.reporting.plots.source import Nothing, Plot, Source, series_name
from dasd_bench.reporting.plots.style import legend_below, panels, styles
from dasd_bench.results.curves import read_steps

SMOOTH_FROM = 60
"""Steps from which on the bold line is a running mean over a twentieth of the steps."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One seed: ``steps``, the loss and the unweighted nll in nats per token (NaN where it was not recorded), the share
    of target tokens with a weight, and whether the gradient was clipped (1 or 0)."""

    steps: list[int]
    loss: list[float]
    nll: list[float]
    kept: list[float]
    clipped: list[float]


def read_curve(path: Path) -> Curve | None:
    """The curve in a ``metrics.jsonl``; None where there is no whole line. A cut-off last line is left out."""
    curve = Curve([], [], [], [], [])
    for step in read_steps(path):
        curve.steps.append(step.step)
        curve.loss.append(step.values.get("loss", math.nan))
        curve.nll.append(step.values.get("nll", math.nan))
        curve.kept.append(step.kept_share or 0.0)
        curve.clipped.append(step.values.get("clipped", 0.0))
    return curve if curve.steps else None


def training(sources: Sequence[Source]) -> Plot | Nothing:
    """Loss, unweighted nll and share of tokens learned from, by step: thin lines are seeds, bold lines their mean."""
    kind = "training"
    found: dict[str, list[Curve]] = {}
    for source in sources:
        for arm in source.results.arms:
            read = (read_curve(source.directory.arm(arm.directory, one.seed).metrics) for one in arm.seeds)
            whole = [curve for curve in read if curve is not None]
            if whole:
                found[series_name(sources, source, arm.label)] = whole
    if not found:
        return Nothing(kind, "These runs have no training metrics.")
    if all(len(curve.steps) < 2 for curves in found.values() for curve in curves):
        return Nothing(kind, "Training took a single step, which makes no curve.")
    from matplotlib.ticker import MaxNLocator

    look = styles(found)
    # Runs of earlier releases did not record the nll.
    with_nll = all(math.isfinite(value) for curves in found.values() for curve in curves for value in curve.nll)
    figure, axes = panels(3 if with_nll else 2, width=3.7, height=2.8)
    left, right = axes[0], axes[-1]
    words = []
    unlike = smoothed = False
    for name, curves in found.items():
        style = look[name]
        # Seeds that stopped early, or dropped other examples, have unlike steps: the mean is over those that all have.
        steps = sorted(set(curves[0].steps).intersection(*(curve.steps for curve in curves)))
        unlike = unlike or any(set(curve.steps) != set(steps) for curve in curves)
        smoothed = smoothed or len(steps) >= SMOOTH_FROM
        drawn = [(left, [c.loss for c in curves]), (right, [[100 * k for k in c.kept] for c in curves])]
        if with_nll:
            drawn.insert(1, (axes[1], [c.nll for c in curves]))
        for axis, series in drawn:
            if len(curves) > 1 or len(steps) >= SMOOTH_FROM:
                for curve, values in zip(curves, series, strict=True):
                    axis.plot(curve.steps, values, color=style.colour, linewidth=0.7, alpha=0.45)
            by_step = [dict(zip(c.steps, values, strict=True)) for c, values in zip(curves, series, strict=True)]
            mean = [fmean(values[step] for values in by_step) for step in steps]
            axis.plot(
                steps,
                running_mean(mean),
                color=style.colour,
                linestyle=style.line,
                marker=style.marker,
                markevery=max(1, len(steps) // 6),
                label=name,
            )
        first, last = fmean(curve.loss[0] for curve in curves), fmean(curve.loss[-1] for curve in curves)
        told = f"{name}: loss {first:.2f} at the first step, {last:.2f} at the last"
        if with_nll:
            first, last = fmean(curve.nll[0] for curve in curves), fmean(curve.nll[-1] for curve in curves)
            clipped = fmean(fmean(curve.clipped) for curve in curves)
            told += f"; unweighted NLL {first:.2f} and {last:.2f}; {100 * clipped:.0f} % of the steps clipped"
        words.append(told)
    left.set_title("weighted loss, nats per token")
    if with_nll:
        axes[1].set_title("unweighted NLL, nats per token")
    right.set_title("target tokens learned from, %")
    right.set_ylim(0, 104)
    for axis in axes:
        axis.set_xlabel("step")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, left)
    seeds = max(len(curves) for curves in found.values())
    caption = (
        "Training loss (weighted, over the stated denominator), "
        + ("the unweighted NLL of the same tokens " if with_nll else "")
        + "and the share of target tokens with a weight above 0. "
        "Methods train on different targets, so losses are not comparable across methods."
        + _lines_told(seeds > 1, unlike, smoothed)
    )
    return Plot(kind, "Training curves", caption, "; ".join(words), figure)


def _lines_told(several: bool, unlike: bool, smoothed: bool) -> str:
    """What bold and thin lines are; nothing where every line is one seed as it was recorded."""
    bold = ["mean over seeds"] if several else []
    if unlike:
        bold.append("at the steps that all seeds of a method have")
    if smoothed:
        bold.append(f"running mean over a twentieth of the steps (where there are {SMOOTH_FROM} or more)")
    thin = "each seed" if several else "as recorded"
    return f" Bold: {', '.join(bold)}; thin: {thin}." if bold else ""


def running_mean(values: Sequence[float]) -> list[float]:
    """``values`` as they are, or for a long series the mean of a centred window of a twentieth of it."""
    if len(values) < SMOOTH_FROM:
        return list(values)
    half = max(1, len(values) // 40)
    return [fmean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]
