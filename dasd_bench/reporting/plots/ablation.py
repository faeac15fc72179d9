"""The plot of an ablation: right answers against replaced tokens, one line per rule."""

from __future__ import annotations

from dasd_bench.reporting.ablation import series
from dasd_bench.reporting.plots.source import Nothing, Plot
from dasd_bench.reporting.plots.style import INK, legend_below, look, panels, styles
from dasd_bench.results.ablation import Ablation, AblationPoint
from dasd_bench.stats.intervals import wilson


def ablation_plot(found: Ablation) -> Plot | Nothing:
    """Right answers, percent with Wilson intervals, against the share of tokens that the gate replaced."""
    kind = "ablation"
    lines = series(found)
    if not lines:
        return Nothing(kind, "No point of this ablation has a result.")
    with look():
        return _draw(kind, found, lines)


def _draw(kind: str, found: Ablation, lines: dict[str, list[AblationPoint]]) -> Plot:
    styled = styles(lines)
    figure, (axis,) = panels(1, width=6.4, height=3.6)
    words = []
    for name, points in lines.items():
        style = styled[name]
        x = [100 * one.replaced_share for one in points]
        y = [100 * one.right_share for one in points]
        ends = [wilson(round(one.right), one.n) for one in points]
        axis.errorbar(
            x,
            y,
            yerr=[
                [max(0.0, value - 100 * end.low) for value, end in zip(y, ends, strict=True)],
                [max(0.0, 100 * end.high - value) for value, end in zip(y, ends, strict=True)],
            ],
            color=style.colour,
            marker=style.marker,
            linestyle=style.line,
            elinewidth=0.6,
            label=name,
        )
        words.append(f"{name}: " + ", ".join(f"{a:.1f} % replaced {b:.1f} right" for a, b in zip(x, y, strict=True)))
    first = next(iter(lines.values()))[0]
    axis.axhline(100 * first.free_right / first.n, color=INK, linewidth=0.7, linestyle=":", label="ungated rewrite")
    axis.set_xlabel("tokens replaced by the gate, %")
    axis.set_ylabel("right answers after the gate, %")
    axis.set_xscale("symlog", linthresh=1.0)
    ticks = [0, 1, 2, 5, 10, 20, 50, 100]
    top = max(100 * one.replaced_share for points in lines.values() for one in points)
    axis.set_xticks([tick for tick in ticks if tick <= 1.5 * top + 1], minor=False)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_xlim(left=-0.1)
    legend_below(figure, axis)
    caption = (
        "Right answers after the gate against the share of tokens that it took from the base, by rule; points are "
        "thresholds, bars 95 % Wilson intervals over answers. All points are decoded from the same prompts, so paired "
        "differences are smaller than the bars suggest; the table has the tests."
    )
    return Plot(kind, f"{found.method}: right answers against replaced tokens", caption, "; ".join(words), figure)
