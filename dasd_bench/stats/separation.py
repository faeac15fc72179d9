"""How well a score separates two kinds of tokens that come in clusters (texts): AUC, and what a threshold gives up.

The kinds are called ``freed`` (what a gate may replace) and the rest (what it must keep). Clusters are drawn, never the
tokens inside them: tokens of one text are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dasd_bench.stats.clustered import resampled_sums
from dasd_bench.stats.intervals import Interval, quantiles

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]

DRAWS = 2_000
"""Resamples: the Monte Carlo error of a 2.5 % quantile's level is then about 0.35 %."""

TOGETHER = 1 << 22
"""Pairs of tokens compared at a time."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval over clusters; ``low`` and ``high`` are None where no interval can be had."""

    value: float
    low: float | None
    high: float | None

    @staticmethod
    def of(value: float, interval: Interval | None) -> Estimate:
        """``value`` with ``interval``."""
        return Estimate(value, interval.low if interval else None, interval.high if interval else None)


def clustered_auc(score: Array, freed: Flags, cluster: Whole, *, draws: int = DRAWS, seed: int = 0) -> Estimate | None:
    """P(a random freed token scores above a random kept one), ties half, with a cluster-bootstrap interval.

    ``score`` [N], ``freed`` [N], ``cluster`` [N] (any integers). None where a kind is missing. The interval is the
    percentile one over resampled clusters; resamples without one of the kinds are left out. With fewer than two
    clusters of either kind there is no interval. Obuchowski 1997, Biometrics 53:567, on clustered ROC data.
    """
    if not freed.any() or freed.all():
        return None
    _, number = np.unique(cluster, return_inverse=True)
    wins = _wins(score, freed, number, int(number.max()) + 1)
    up = np.bincount(number[freed], minlength=len(wins)).astype(np.float64)
    down = np.bincount(number[~freed], minlength=len(wins)).astype(np.float64)
    value = float(wins.sum() / (up.sum() * down.sum()))
    if min(np.count_nonzero(up), np.count_nonzero(down)) < 2:
        return Estimate(value, None, None)
    rng = np.random.default_rng(seed)
    found = []
    for start in range(0, draws, 256):
        drawn = rng.multinomial(len(wins), np.full(len(wins), 1 / len(wins)), size=min(256, draws - start))
        counts = drawn.astype(np.float64)
        pairs = (counts @ up) * (counts @ down)
        sums = np.einsum("di,di->d", counts @ wins, counts)
        found.append(sums[pairs > 0] / pairs[pairs > 0])
    return Estimate.of(value, quantiles(np.concatenate(found), 0.95, "clustered bootstrap"))


def _wins(score: Array, freed: Flags, number: Whole, clusters: int) -> Array:
    """Float64 [clusters, clusters]: how often a freed token of the row's beats a kept one of the column's."""
    up, down = np.flatnonzero(freed), np.flatnonzero(~freed)
    down = down[np.argsort(number[down], kind="stable")]
    columns, starts = np.unique(number[down], return_index=True)
    wins = np.zeros((clusters, clusters))
    step = max(1, TOGETHER // len(down))
    for first in range(0, len(up), step):
        some = up[first : first + step]
        beats = (score[some, None] > score[None, down]) + 0.5 * (score[some, None] == score[None, down])
        by_column = np.add.reduceat(beats, starts, axis=1)
        np.add.at(wins, (number[some][:, None], columns[None, :]), by_column)
    return wins


@dataclass(frozen=True, slots=True)
class Replacement:
    """What replacing a share of the tokens does.

    ``rate`` is the share that is replaced; ``precision`` the share of the replaced tokens that are freed ones,
    ``recall`` the share of the freed ones that are replaced, ``lost`` the share of the kept kind that is replaced all
    the same. None where there is nothing to count.
    """

    rate: float
    precision: Estimate | None
    recall: Estimate | None
    lost: Estimate | None


def replacement(taken: Array, freed: Flags, cluster: Whole, *, draws: int = DRAWS, seed: int = 0) -> Replacement:
    """Rates of a decision, with cluster-bootstrap intervals.

    ``taken`` float64 [N] in [0, 1] is the chance that a token is replaced: 0 or 1 for a rule, and a fraction for a
    score's ties at its threshold (see :func:`at_rate`).
    """
    _, number = np.unique(cluster, return_inverse=True)
    kept = ~freed
    columns = np.stack(
        [np.bincount(number, weights=one) for one in (taken, taken * freed, taken * kept, 1.0 * freed, 1.0 * kept)],
        axis=1,
    ).astype(np.float64)
    sums = resampled_sums(columns, draws, seed)
    total = columns.sum(axis=0)

    def ratio(above: int, below: int) -> Estimate | None:
        if total[below] <= 0:
            return None
        value = float(total[above] / total[below])
        there = sums[:, below] > 0
        if np.count_nonzero(columns[:, below]) < 2:
            return Estimate(value, None, None)
        return Estimate.of(value, quantiles(sums[there, above] / sums[there, below], 0.95, "clustered bootstrap"))

    return Replacement(float(taken.mean()), ratio(1, 0), ratio(1, 3), ratio(2, 4))


def at_rate(score: Array, rate: float) -> Array:
    """The decision that replaces the share ``rate`` of all tokens, highest scores first: float64 [N] in [0, 1].

    Tokens that tie at the threshold are replaced with the same chance each, so that the rate is met exactly.
    """
    wanted = rate * len(score)
    levels, counts = np.unique(-score, return_counts=True)
    before = np.concatenate([[0.0], np.cumsum(counts)[:-1]])
    chance = np.clip((wanted - before) / counts, 0.0, 1.0)
    return np.asarray(chance[np.searchsorted(levels, -score)], dtype=np.float64)


def roc(score: Array, freed: Flags) -> tuple[list[float], list[float]]:
    """The ROC curve: share of the kept kind that is replaced (x) and share of the freed kind that is (y), from 0 to 1.

    One point per distinct score.
    """
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    up = np.cumsum(freed[order])[last] / max(1, int(freed.sum()))
    down = np.cumsum(~freed[order])[last] / max(1, int((~freed).sum()))
    return [0.0, *down.tolist()], [0.0, *up.tolist()]
