"""Intervals for one score: Wilson for a share, bootstrap for anything per item."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

BOOTSTRAP_DRAWS = 10_000
"""Resamples of a bootstrap: Monte Carlo error of a 2.5 % quantile's level is then about 0.16 %."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A closed interval with its nominal ``level`` (0.95) and the ``method`` that made it."""

    low: float
    high: float
    level: float
    method: str


def z_value(level: float) -> float:
    """The two-sided standard normal quantile: 1.96 for 0.95."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval for a share (Wilson 1927, JASA 22:209; Newcombe 1998, Stat. Med. 17:857, method 3).

    Sound for 0 of n and n of n, where one end is exactly 0 or 1. Raises ValueError unless 0 <= successes <= n, n > 0.
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(level, method="wilson")
    return Interval(float(interval.low), float(interval.high), level, "Wilson")


def bootstrap_means(values: Sequence[float], draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> np.ndarray:
    """Means of ``draws`` resamples with replacement of ``values``, float64 [draws]; the seed fixes them.

    Resampling n items is drawing counts, so items with equal values are drawn together: exact, and quick when the
    values are few (pass/fail, differences of pass/fail).
    """
    array = np.asarray(values, dtype=np.float64)
    distinct, counts = np.unique(array, return_counts=True)
    rng = np.random.default_rng(seed)
    if len(distinct) <= 64:
        picked = rng.multinomial(len(array), counts / len(array), size=draws)
        return np.asarray(picked @ distinct / len(array), dtype=np.float64)
    means = np.empty(draws, dtype=np.float64)
    rows = max(1, 2_000_000 // len(array))
    for start in range(0, draws, rows):
        size = min(rows, draws - start)
        means[start : start + size] = array[rng.integers(0, len(array), size=(size, len(array)))].mean(axis=1)
    return means


def bootstrap(
    values: Sequence[float], level: float = 0.95, draws: int = BOOTSTRAP_DRAWS, seed: int = 0
) -> Interval | None:
    """Percentile bootstrap interval for the mean over items (Efron and Tibshirani 1993, chapter 13); None when empty.

    With zero variance both ends are the mean.
    """
    if not len(values):
        return None
    return quantiles(bootstrap_means(values, draws, seed), level, "bootstrap")


def matched_difference(strata: Sequence[Sequence[float]], level: float = 0.95) -> Interval:
    """Interval for the plain average over strata (tasks) of the mean paired difference of scores in [0, 1].

    With one stratum of -1, 0, 1 this is Agresti and Min's adjusted interval for matched proportions (2005, Stat. Med.
    24:729): half a pair is added to each cell of the 2x2 table, so that items without a single change do not give an
    interval of width 0. Several strata add their variances; differences averaged over seeds are taken as they are.
    """
    middle = variance = 0.0
    for values in strata:
        array = np.asarray(values, dtype=np.float64)
        pairs = len(array) + 2
        mean = float(array.sum()) / pairs
        middle += mean / len(strata)
        variance += ((float(array @ array) + 1) / pairs - mean * mean) / pairs / len(strata) ** 2
    half = z_value(level) * math.sqrt(variance)
    return Interval(max(-1.0, middle - half), min(1.0, middle + half), level, "Agresti-Min")


def quantiles(draws: np.ndarray, level: float, method: str) -> Interval:
    """The central interval of bootstrap draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, method)
