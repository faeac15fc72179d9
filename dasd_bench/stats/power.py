"""What a paired comparison can detect: its smallest significant difference, and the power of the test that is run."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dasd_bench.stats.intervals import z_value
from dasd_bench.stats.paired import SIGN_FLIPS, Changes

Array = npt.NDArray[np.float64]

DRAWS = 2_000
"""Simulated comparisons per power estimate: a power of .8 has a Monte Carlo standard error of .009."""

EXACT_ITEMS = 60
"""Changed items up to which the null distribution is exact; beyond, it is normal with a continuity correction."""


def changed_items_needed(alpha: float = 0.05) -> int:
    """The fewest items that can give p < ``alpha``: they all change in one direction and p is 2 / 2^items."""
    items = 1
    while 2.0 ** (1 - items) >= alpha:
        items += 1
    return items


def smallest_significant_difference(n: int, step: float, alpha: float = 0.05) -> float | None:
    """The smallest observed mean difference of pass/fail scores that can have p < ``alpha``; None where none can.

    It is :func:`changed_items_needed` items that each change by ``step`` in the same direction. Mixed directions or
    larger changes need a larger difference.
    """
    items = changed_items_needed(alpha)
    return None if items > n else items * step / n


def detectable_difference(changes: Changes, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """The least true mean difference for which the test has ``power``; None where no difference reaches p < ``alpha``.

    The alternative keeps what was seen: the same share of items changes, by sizes drawn from ``changes.sizes``, and the
    changes go more in one direction. Where that is not enough, more items change. The result is never below the
    smallest difference that can be significant at all.
    """
    if changed_items_needed(alpha) > changes.n:
        return None
    seen, mean = changes.changed / changes.n, float(np.mean(changes.sizes or (1.0,)))
    low, high = 0.0, mean
    for _ in range(10):
        middle = (low + high) / 2
        if paired_power(changes, max(seen, middle / mean), middle, alpha) < power:
            low = middle
        else:
            high = middle
    floor = 0.0 if changes.step is None else smallest_significant_difference(changes.n, changes.step, alpha)
    return max(high, floor or 0.0)


def paired_power(changes: Changes, changed: float, difference: float, alpha: float = 0.05) -> float:
    """Chance that :func:`~dasd_bench.stats.paired.compare` finds p < ``alpha``.

    A share ``changed`` of the items changes, each by a size drawn from ``changes.sizes`` (1.0 where nothing was seen to
    change), in a direction drawn so that the mean difference is ``difference``. Exact where all sizes are equal (the
    exact McNemar test), else simulated with a fixed seed.
    """
    pool, counts = np.unique(np.asarray(changes.sizes or (1.0,), dtype=np.float64), return_counts=True)
    # More than every item cannot change; rounding may ask for it.
    changed = min(changed, 1.0)
    better = min(1.0, 0.5 + difference / (2 * changed * float(pool @ counts / counts.sum()))) if changed else 0.5
    if len(pool) == 1 and changes.step is not None:
        return mcnemar_power(changes.n, changed, (2 * better - 1) * changed, alpha)
    rng = np.random.default_rng(0)
    if changes.step is None:
        return _graded_power(rng, changes, changed, better, alpha)
    sizes = np.rint(pool / changes.step).astype(np.int64)
    shares = np.append(changed * counts / counts.sum(), max(0.0, 1 - changed))
    drawn = rng.multinomial(changes.n, shares / shares.sum(), size=DRAWS)[:, :-1]
    sums = np.abs((2 * rng.binomial(drawn, better) - drawn) @ sizes)
    return float(np.mean(_sign_flip_p(sums, drawn, sizes) < alpha))


def _sign_flip_p(sums: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> Array:
    """Two-sided sign-flip p [draws] of ``sums`` where ``counts`` [draws, k] items have the integer ``sizes`` [k]."""
    from scipy.special import ndtr

    spread = np.sqrt(np.maximum(counts @ sizes**2, 1))
    gap = int(np.gcd.reduce(sizes))
    found = np.minimum(1.0, 2 * ndtr(-np.maximum(sums - gap, 0) / spread))
    few = counts.sum(axis=1) <= EXACT_ITEMS
    if few.any():
        rows, inverse = np.unique(counts[few], axis=0, return_inverse=True)
        reach = int((rows @ sizes).max())
        # The characteristic function of a sum of random signs is a product of cosines; its inverse is the distribution.
        length = 2 * reach + 1
        angles = 2 * np.pi * np.arange(reach + 1) / length
        wave = np.ones((len(rows), reach + 1))
        for size, count in zip(sizes, rows.T, strict=True):
            wave *= np.cos(size * angles)[None, :] ** count[:, None]
        chances = np.fft.irfft(wave, n=length, axis=1)[:, : reach + 1]
        chances[:, 1:] *= 2
        tails = np.cumsum(chances[:, ::-1], axis=1)[:, ::-1]
        found[few] = tails[inverse.ravel(), sums[few]]
    return np.asarray(found, dtype=np.float64)


def _graded_power(rng: np.random.Generator, changes: Changes, changed: float, better: float, alpha: float) -> float:
    """The same for graded scores, whose sign-flip test draws its sign patterns."""
    from scipy.special import ndtr

    draws = DRAWS // 4
    shape = (draws, changes.n)
    values = np.where(rng.random(shape) < changed, rng.choice(np.asarray(changes.sizes or (1.0,)), size=shape), 0.0)
    sums = np.abs((values * np.where(rng.random(shape) < better, 1.0, -1.0)).sum(axis=1))
    if changes.n * changed > EXACT_ITEMS:
        spread = np.sqrt(np.maximum((values**2).sum(axis=1), 1e-300))
        return float(np.mean(2 * ndtr(-sums / spread) < alpha))
    flips = min(SIGN_FLIPS, max(4_000, math.ceil(20 / alpha)))
    signs = rng.integers(0, 2, size=(flips, changes.n), dtype=np.int8) * np.float64(2) - 1
    hits = (np.abs(signs @ values.T) >= sums * (1 - 1e-12) - 1e-12).sum(axis=0)
    return float(np.mean((hits + 1) / (flips + 1) < alpha))


def mcnemar_power(n: int, discordance: float, difference: float, alpha: float = 0.05, *, sides: int = 2) -> float:
    """Power of the exact McNemar test on ``n`` pairs.

    ``discordance`` is the share of items that only one of the two models gets right, ``difference`` (0 to
    ``discordance``) the true difference in accuracy. The number of discordant items is binomial(n, discordance), the
    wins among them binomial; both are summed over, nothing is approximated (Duffy 1984, Biometrics 40:1005).
    """
    from scipy.special import bdtr, bdtrc, gammaln, xlog1py, xlogy

    m = np.arange(n + 1)
    log_choose = gammaln(n + 1) - gammaln(m + 1) - gammaln(n - m + 1)
    weight = np.exp(log_choose + xlogy(m, discordance) + xlog1py(n - m, -discordance))
    likely = weight > 1e-12
    m, weight = m[likely], weight[likely]
    share = 0.5 + difference / (2 * discordance) if discordance else 0.5
    # critical[m]: the largest k with P(Bin(m, 1/2) <= k) <= alpha / sides, or -1 where no outcome is significant.
    critical = _critical(m, alpha / sides)
    reject = np.where(critical >= 0, bdtrc(m - critical - 1, m, share), 0.0)
    if sides == 2:
        reject = reject + np.where(critical >= 0, bdtr(critical, m, share), 0.0)
    return float(np.clip(weight @ reject, 0.0, 1.0))


def _critical(m: np.ndarray, tail: float) -> np.ndarray:
    from scipy.special import bdtr

    critical = np.floor(m / 2 - z_value(1 - 2 * tail) * np.sqrt(m) / 2).astype(np.int64)
    # The normal guess is off by one or two at most; walk to the exact value.
    critical = np.clip(critical + 2, -1, m)
    for _ in range(6):
        too_high = (critical >= 0) & (bdtr(np.maximum(critical, 0), m, 0.5) > tail)
        critical = np.where(too_high, critical - 1, critical)
    return np.asarray(critical)
