"""Tables of an ablation: every point, and the rules at matched replacement rates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from dasd_bench.reporting.format import listing
from dasd_bench.reporting.table import EMPTY, Cell, Column, Row, Table
from dasd_bench.results.ablation import Ablation, AblationPoint
from dasd_bench.stats.intervals import wilson
from dasd_bench.stats.multiple import holm
from dasd_bench.stats.paired import mcnemar_exact

RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Replacement rates, as shares of the gated answers' tokens, at which rules are compared."""

IDLE = 0.01
"""Below this share of replaced tokens a point is in effect the ungated rewrite."""


def ablation_tables(found: Ablation) -> list[Table]:
    """The table of points, and that of matched rates where any rule reaches one."""
    tables = [point_table(found)]
    matched = matched_table(found)
    return [*tables, matched] if matched.rows else tables


def point_table(found: Ablation) -> Table:
    """One row per point, in the grid's order."""
    columns = [
        Column("threshold", "threshold"),
        Column("replaced", "replaced", ranked=False),
        Column("refused", "refused"),
        Column("right", "right", "up", ranked=True),
        Column("broke", "gate broke", "down"),
        Column("fixed", "gate fixed", "up"),
        Column("p", "p"),
        Column("changed", "changed", shown=False),
        Column("tokens", "tokens"),
    ]
    tasks = list(dict.fromkeys(task for point in found.points for task in point.accuracy))
    columns += [Column(f"score_{task}", task, "up", ranked=True) for task in tasks]
    sound = [point for point in found.points if not point.failed]
    tested = {id(one): p for one, p in zip(sound, holm([_p(one) for one in sound]), strict=True)}
    rows = []
    for point in found.points:
        cells = {"threshold": Cell(point.threshold)} if point.threshold else {}
        if not point.failed:
            cells |= _cells(point, tested[id(point)])
        cells |= {f"score_{task}": _percent(value) for task, value in point.accuracy.items()}
        rows.append(Row(point.series, cells))
    return Table(
        "ablation",
        f"{found.method} on {found.model}: targets by rule and threshold",
        columns,
        rows,
        caption=_caption(found),
        warnings=[
            *(f"{point.label} failed: {point.failed}" for point in found.points if point.failed),
            *_idle(sound),
        ],
        row_title="rule",
    )


def _cells(point: AblationPoint, p_holm: float) -> dict[str, Cell]:
    around = wilson(round(point.right), max(1, point.n))
    p = _p(point)
    each = point.tokens / point.seeds if point.seeds else 0.0
    return {
        "replaced": Cell(f"{100 * point.replaced_share:.1f} %", point.replaced_share),
        "refused": Cell(f"{100 * point.refused_share:.0f} %", point.refused_share),
        "right": Cell(
            f"{100 * point.right_share:.1f}",
            point.right_share,
            f"[{100 * around.low:.1f}, {100 * around.high:.1f}]",
            around.low,
            around.high,
            n=point.n,
        ),
        "broke": Cell(f"{point.broke:g}", point.broke),
        "fixed": Cell(f"{point.fixed:g}", point.fixed),
        "p": Cell(f"{p_holm:.2g}", p_holm, p=p, p_holm=p_holm),
        "changed": Cell(f"{point.changed:g}", point.changed),
        "tokens": Cell(f"{each:.0f}", each),
    }


def _p(point: AblationPoint) -> float:
    """Against the ungated rewrite on the same items; several seeds of an item are no independent pairs."""
    return mcnemar_exact(round(point.fixed / point.seeds), round(point.broke / point.seeds)) if point.seeds else 1.0


def _caption(found: Ablation) -> list[str]:
    rows = listing([f"{task} {count}" for task, count in found.rows.items()])
    free = next((point for point in found.points if point.n), None)
    lines = [
        f"Rows of the train split that are not trained on: {rows}. Replaced: share of the gated answers' tokens taken "
        "from the base; refused: share of the disagreements of the two streams. Right: gated answers that pass the "
        "acceptance check, percent, with Wilson intervals; broke and fixed are counted against the ungated rewrite"
        + (f" ({100 * free.free_right / free.n:.1f} right)" if free else "")
        + "; p is McNemar's exact test of the two, after Holm over all points.",
    ]
    lines.append(
        "Task columns: score on these rows after training on the others, percent."
        if found.trained
        else "Nothing was trained; --train adds the scores after training."
    )
    cost = found.cost
    done = cost["prompts"] + cost["repeated"] + cost["decoded"]
    if done:
        lines.append(
            f"Dual decoding in shared passes took {done:,} tokens through the model ({cost['prompts']:,} of prompts, "
            f"{cost['decoded']:,} decoded, {cost['repeated']:,} computed again) where the rules one by one take "
            f"{cost['alone']:,}: {cost['alone'] / done:.1f} times as many, prompts included, "
            "which are computed once for all rules. "
            f"{cost['forks']:,} forks."
        )
    return lines


def _idle(points: Sequence[AblationPoint]) -> list[str]:
    idle = [point.label for point in points if point.replaced_share < IDLE and point.series != "ungated"]
    if not idle:
        return []
    return [f"Less than 1 % of tokens replaced, so in effect self-distill: {listing(idle)}."]


def matched_table(found: Ablation) -> Table:
    """Right answers of each rule at the rates of :data:`RATES`, between its two nearest points.

    No rule is read beyond its largest rate; below its smallest, the ungated rewrite (rate 0) is the other point.
    """
    columns = [Column(f"at_{rate:g}", f"{100 * rate:g} %", "up", ranked=True) for rate in RATES]
    rows = []
    for name, points in series(found).items():
        cells = {}
        for rate in RATES:
            value = interpolated(points, rate)
            cells[f"at_{rate:g}"] = EMPTY if value is None else _percent(value)
        if any(cell is not EMPTY for cell in cells.values()):
            rows.append(Row(name, cells))
    return Table(
        "matched",
        "Right answers at matched replacement rates",
        columns,
        rows,
        caption=[
            "Percent of gated answers right where the rule replaces this share of tokens, by straight lines between "
            "its points; rates below its smallest point go to the ungated rewrite at 0 %. No intervals: the points' "
            "are in the table above."
        ],
        row_title="rule",
    )


def series(found: Ablation) -> dict[str, list[AblationPoint]]:
    """The points without failure by rule, in rising order of the replaced share."""
    lines: dict[str, list[AblationPoint]] = {}
    for point in found.points:
        if not point.failed and point.n:
            lines.setdefault(point.series, []).append(point)
    return {name: sorted(points, key=lambda one: one.replaced_share) for name, points in lines.items()}


def interpolated(points: Sequence[AblationPoint], rate: float) -> float | None:
    """Share of right answers at a replacement rate; None beyond the largest."""
    known = [(0.0, points[0].free_right / points[0].n), *((one.replaced_share, one.right_share) for one in points)]
    for (x, y), (beyond, other) in pairwise(known):
        if x <= rate <= beyond and beyond > x:
            return y + (other - y) * (rate - x) / (beyond - x)
    return None


def _percent(value: float) -> Cell:
    return Cell(f"{100 * value:.1f}", value)
