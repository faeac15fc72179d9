"""Pass@k from several samples per problem."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .errors import SettingError


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate of the chance that at least one of ``k`` samples passes, from ``c`` passes in ``n``:
    ``1 - C(n-c, k) / C(n, k)`` (Chen et al. 2021, "Evaluating Large Language Models Trained on Code", section 2.1).
    Raises SettingError unless ``0 <= c <= n`` and ``1 <= k <= n``.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise SettingError(
            f"pass@{k} needs at least {k} samples per problem and 0 <= passes <= samples, not {c} of {n}."
        )
    if n - c < k:
        return 1.0
    miss = 1.0
    for i in range(n - c + 1, n + 1):
        miss *= 1.0 - k / i
    return 1.0 - miss


def clustered_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of the mean of one value per problem: normal, from the spread between problems, so that samples
    of one problem, which are alike, count as the cluster they are (Miller 2024, arXiv 2411.00640); within [0, 1]."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return 0.0, 1.0
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = 1.96 * math.sqrt(variance / len(values))
    return max(0.0, mean - half), min(1.0, mean + half)
