"""What a comparison on n items can see: exact power of the exact McNemar test, and the least difference it detects."""

from __future__ import annotations

import math

import numpy as np

from dasd_bench.stats.intervals import z_value


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


def detectable_difference(n: int, discordance: float, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """The least true difference in accuracy that ``n`` items show with ``power``; None where even 1.0 is not seen.

    ``discordance`` is what was seen; it rises with the difference where it must, since no difference exceeds it.
    """
    if mcnemar_power(n, 1.0, 1.0, alpha) < power:
        return None
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        if mcnemar_power(n, max(discordance, middle), middle, alpha) < power:
            low = middle
        else:
            high = middle
    return high


def detectable_mean_difference(n: int, deviation: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """The least mean difference seen with ``power`` for paired differences of standard deviation ``deviation``.

    Normal approximation, for scores that are not pass/fail or are averaged over seeds.
    """
    return (z_value(1 - alpha) + z_value(2 * power - 1)) * deviation / math.sqrt(n)


def _critical(m: np.ndarray, tail: float) -> np.ndarray:
    from scipy.special import bdtr

    critical = np.floor(m / 2 - z_value(1 - 2 * tail) * np.sqrt(m) / 2).astype(np.int64)
    # The normal guess is off by one or two at most; walk to the exact value.
    critical = np.clip(critical + 2, -1, m)
    for _ in range(6):
        too_high = (critical >= 0) & (bdtr(np.maximum(critical, 0), m, 0.5) > tail)
        critical = np.where(too_high, critical - 1, critical)
    return np.asarray(critical)
