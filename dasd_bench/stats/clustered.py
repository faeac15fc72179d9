"""Uncertainty where observations come in clusters: samples of one item, tokens of one text, seeds of one item.

Clusters are what is drawn, never the observations inside them: those are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dasd_bench.stats.intervals import BOOTSTRAP_DRAWS, Interval, quantiles

Array = npt.NDArray[np.float64]


def resampled_sums(columns: Array, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> Array:
    """Column sums of ``draws`` resamples with replacement of the rows of ``columns`` [n, k]: float64 [draws, k].

    All columns of a row are drawn together, which is what pairs them.
    """
    n, width = columns.shape
    rng = np.random.default_rng(seed)
    sums = np.empty((draws, width), dtype=np.float64)
    rows = max(1, 2_000_000 // n)
    for start in range(0, draws, rows):
        size = min(rows, draws - start)
        picked = rng.integers(0, n, size=(size, n))
        flat = (picked + n * np.arange(size)[:, None]).ravel()
        counts = np.bincount(flat, minlength=size * n).reshape(size, n)
        sums[start : start + size] = counts.astype(np.float64) @ columns
    return sums


def ratio_bootstrap(
    totals: Sequence[float] | Array,
    sizes: Sequence[float] | Array,
    level: float = 0.95,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of sum(totals) / sum(sizes), such as nll per token, whole clusters (texts) drawn.

    Field and Welsh 2007, J. R. Statist. Soc. B 69:369 (the cluster bootstrap).
    """
    columns = np.stack([np.asarray(totals, dtype=np.float64), np.asarray(sizes, dtype=np.float64)], axis=1)
    sums = resampled_sums(columns, draws, seed)
    draw = sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], np.nan)
    return quantiles(draw[np.isfinite(draw)], level, "clustered bootstrap")


def ratio_difference(
    a: Sequence[float] | Array,
    b: Sequence[float] | Array,
    sizes: Sequence[float] | Array,
    level: float = 0.95,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> tuple[float, Interval]:
    """Difference (a minus b) of two models' totals per unit on the same clusters of ``sizes`` units, with its interval.

    Clusters that have no unit (a text without a number) are left in and add nothing.
    """
    columns = np.stack([np.asarray(x, dtype=np.float64) for x in (a, b, sizes)], axis=1)
    sums = resampled_sums(columns, draws, seed)
    draw = (sums[:, 0] - sums[:, 1]) / np.where(sums[:, 2] > 0, sums[:, 2], np.nan)
    found = columns.sum(axis=0)
    return float((found[0] - found[1]) / found[2]), quantiles(draw[np.isfinite(draw)], level, "paired bootstrap")


def mean_relative_change(
    sets: Sequence[tuple[Sequence[float], Sequence[float]]],
    level: float = 0.95,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> tuple[float, Interval] | None:
    """Mean over sets of (after - before) / before of their means, with a bootstrap interval.

    Each set is (after, before), paired by item; sets are drawn apart. None where a set was at 0 before. A draw in which
    a set is at 0 before has no relative change and is left out. Sets of scores in [0, 1] are drawn with one gain and
    one loss added, as in Agresti and Min's interval, so that no change seen is not certainty of no change.
    """
    changes = []
    total = np.zeros(draws)
    for number, (after, before) in enumerate(sets):
        columns = np.stack([np.asarray(after, dtype=np.float64), np.asarray(before, dtype=np.float64)], axis=1)
        if not columns[:, 1].sum():
            return None
        changes.append(float(columns[:, 0].sum() / columns[:, 1].sum() - 1))
        if columns.min() >= 0 and columns.max() <= 1:
            columns = np.concatenate([columns, [[1.0, 0.0], [0.0, 1.0]]])
        sums = resampled_sums(columns, draws, seed + number)
        total += sums[:, 0] / np.where(sums[:, 1] != 0, sums[:, 1], np.nan) - 1
    if not changes:
        return None
    drawn = total[np.isfinite(total)] / len(changes)
    return sum(changes) / len(changes), quantiles(drawn, level, "bootstrap")
