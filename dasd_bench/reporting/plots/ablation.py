"""The plots of an ablation: correct answers against replaced tokens by rule, and both against a rule's threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dasd_bench.reporting.ablation import series
from dasd_bench.reporting.plots.source import Nothing, Plot
from dasd_bench.reporting.plots.style import INK, Style, legend_below, look, panels, styles
from dasd_bench.results.ablation import Ablation, AblationPoint
from dasd_bench.stats.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def ablation_plot(found: Ablation) -> Plot | Nothing:
    """Correct answers, percent with Wilson intervals, against the share of tokens that the gate replaced."""
    kind = "ablation"
    lines = series(found)
    if not lines:
        return Nothing(kind, "No point of this ablation has a result.")
    if sum(len(points) for points in lines.values()) == 1:
        return Nothing(kind, "This ablation has a single point, so there is nothing to compare.")
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
        _right(axis, x, points, style, name)
        words.append(
            f"{name}: " + ", ".join(f"{a:.1f} % replaced {b:.1f} % correct" for a, b in zip(x, y, strict=True))
        )
    _ungated(axis, lines)
    axis.set_xlabel("tokens replaced by the gate, %")
    axis.set_ylabel("correct answers after the gate, %")
    axis.set_xscale("symlog", linthresh=1.0)
    ticks = [0, 1, 2, 5, 10, 20, 50, 100]
    top = max(100 * one.replaced_share for points in lines.values() for one in points)
    axis.set_xticks([tick for tick in ticks if tick <= 1.5 * top + 1], minor=False)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_xlim(left=-0.1)
    legend_below(figure, axis)
    caption = (
        "Correct answers after the gate against the share of tokens that it took from the base, by rule; points are "
        "thresholds, bars 95 % Wilson intervals over answers. All points are decoded from the same prompts, so paired "
        "differences are smaller than the bars suggest; the table has the tests."
    )
    return Plot(kind, f"{found.method}: correct answers against replaced tokens", caption, "; ".join(words), figure)


def threshold_plots(found: Ablation) -> list[Plot | Nothing]:
    """A figure for each numeric option that a rule has at two values or more: tokens replaced, and correct answers."""
    kind = "threshold"
    lines = series(found)
    # An option's line needs two values of it with all other numbers equal.
    curves: dict[str, dict[str, list[AblationPoint]]] = {}
    for name, points in lines.items():
        for option in dict.fromkeys(option for one in points for option in one.numbers):
            for rest, own in _by_rest(points, option).items():
                if len({one.numbers[option] for one in own}) > 1:
                    label = ", ".join([name, *(f"{other}={value:g}" for other, value in rest)])
                    ordered = sorted(own, key=lambda one: one.numbers[option])
                    curves.setdefault(option, {})[label] = ordered
    if not curves:
        why = "No rule of this ablation has two values of a threshold; --grid 'rule=margin;mu=0.1,0.3' has."
        return [Nothing(kind, why)]
    with look():
        return [_threshold(f"{kind}-{option}", found, option, own) for option, own in curves.items()]


def _by_rest(points: list[AblationPoint], option: str) -> dict[tuple[tuple[str, float], ...], list[AblationPoint]]:
    """The points that have ``option``, by their other numbers."""
    found: dict[tuple[tuple[str, float], ...], list[AblationPoint]] = {}
    for one in points:
        if option in one.numbers:
            rest = tuple(sorted((name, value) for name, value in one.numbers.items() if name != option))
            found.setdefault(rest, []).append(one)
    return found


def _threshold(kind: str, found: Ablation, option: str, lines: dict[str, list[AblationPoint]]) -> Plot:
    styled = styles(lines)
    figure, (left, right) = panels(2, width=3.7, height=3.0)
    words = []
    for name, points in lines.items():
        style, x = styled[name], [one.numbers[option] for one in points]
        shares = [100 * one.replaced_share for one in points]
        left.plot(x, shares, color=style.colour, marker=style.marker, linestyle=style.line, label=name)
        _right(right, x, points, style, name)
        words += [
            f"{name} at {option} {value:g}: {share:.1f} % replaced, {100 * one.right_share:.1f} % correct"
            for value, share, one in zip(x, shares, points, strict=True)
        ]
    _ungated(right, lines)
    left.set_ylabel("tokens replaced by the gate, %")
    left.set_ylim(bottom=0)
    right.set_ylabel("correct answers after the gate, %")
    values = sorted({one.numbers[option] for points in lines.values() for one in points})
    for axis in (left, right):
        axis.set_xlabel(option)
        if len(values) <= 8:
            axis.set_xticks(values, [f"{value:g}" for value in values])
    legend_below(figure, left, right)
    caption = (
        f"Tokens that the gate took from the base, and correct answers after it, against {option}, by rule; bars are "
        "95 % Wilson intervals over answers. The dotted line is the rewrite without a gate."
    )
    return Plot(kind, f"{found.method}: the gate over {option}", caption, "; ".join(words), figure)


def _right(axis: Axes, x: list[float], points: list[AblationPoint], style: Style, name: str) -> None:
    """Correct answers in percent, with Wilson intervals."""
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


def _ungated(axis: Axes, lines: dict[str, list[AblationPoint]]) -> None:
    first = next(iter(lines.values()))[0]
    axis.axhline(100 * first.free_right / first.n, color=INK, linewidth=0.7, linestyle=":", label="ungated rewrite")
