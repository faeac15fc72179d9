"""Pass@k from several samples per problem."""

from __future__ import annotations

from dasd_bench.errors import UsageError


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate of the chance that at least one of ``k`` samples passes, from ``c`` passes in ``n``:
    ``1 - C(n-c, k) / C(n, k)`` (Chen et al. 2021, "Evaluating Large Language Models Trained on Code", section 2.1).
    Raises UsageError unless ``0 <= c <= n`` and ``1 <= k <= n``.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise UsageError(f"pass@{k} needs at least {k} samples per problem and 0 <= passes <= samples, not {c} of {n}.")
    if n - c < k:
        return 1.0
    miss = 1.0
    for i in range(n - c + 1, n + 1):
        miss *= 1.0 - k / i
    return 1.0 - miss
