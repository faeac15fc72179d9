"""Paired tests of two models on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dasd_bench.stats.intervals import BOOTSTRAP_DRAWS, Interval, bootstrap, matched_difference

SIGN_FLIPS = 20_000
"""Random sign patterns where the exact distribution is out of reach."""

EXACT_CELLS = 50_000_000
"""Largest work (items x reachable sums) for the exact sign-flip distribution."""


@dataclass(frozen=True, slots=True)
class Changes:
    """How two models disagree on ``n`` items, which is all that the power of their paired test depends on.

    ``changed`` items have different scores (averaged over seeds), and ``sizes`` are the absolute differences to expect
    of a changed item (1.0: right in all seeds against wrong in all). ``step`` is the smallest difference that one item
    can have, 1 / (seeds of a x seeds of b), for pass/fail scores; None for graded ones, which have none.
    """

    n: int
    changed: int
    sizes: tuple[float, ...]
    step: float | None


@dataclass(frozen=True, slots=True)
class Paired:
    """One comparison on ``n`` shared items.

    ``difference`` is the mean of a minus b, ``interval`` its interval over items (Agresti-Min for pass/fail, else
    paired bootstrap); ``wins``, ``losses`` and ``ties`` count items where a is better, worse, equal; ``p`` is two-sided
    by ``test``; ``changes`` is what the power of the test depends on.
    """

    n: int
    difference: float
    interval: Interval | None
    wins: int
    losses: int
    ties: int
    p: float
    test: str
    changes: Changes


def mcnemar_exact(wins: int, losses: int) -> float:
    """Two-sided exact McNemar p-value: twice the smaller binomial tail at 1/2, at most 1 (McNemar 1947).

    Without discordant items nothing speaks against equality and p is 1.
    """
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def sign_flip_exact(differences: Sequence[int]) -> float:
    """Fisher's randomisation test for paired integers: P(|sum| >= observed) when every sign is a fair coin.

    Fisher 1935, The Design of Experiments, section 21. For differences of -1, 0 and 1 this is the exact McNemar test.
    """
    sizes = [abs(d) for d in differences if d]
    total = sum(sizes)
    observed = abs(sum(differences))
    # chances[i] is P(sum = i - reach) over the differences seen so far.
    chances = np.zeros(2 * total + 1)
    chances[total] = 1.0
    for size in sizes:
        moved = np.zeros_like(chances)
        moved[size:] += chances[: len(chances) - size]
        moved[: len(chances) - size] += chances[size:]
        chances = moved / 2
    sums = np.abs(np.arange(-total, total + 1))
    return min(1.0, float(chances[sums >= observed].sum()))


def sign_flip_sampled(differences: Sequence[float], flips: int = SIGN_FLIPS, seed: int = 0) -> float:
    """The same test by ``flips`` random sign patterns: (hits + 1) / (flips + 1), never 0.

    Adding one keeps the test valid (Phipson and Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39).
    """
    array = np.asarray([d for d in differences if d != 0], dtype=np.float64)
    if not len(array):
        return 1.0
    # Sums that are equal in exact arithmetic may differ in their last bits.
    observed = abs(float(array.sum())) * (1 - 1e-12) - 1e-12
    rng = np.random.default_rng(seed)
    hits, done = 0, 0
    rows = max(1, 4_000_000 // len(array))
    while done < flips:
        size = min(rows, flips - done)
        signs = rng.integers(0, 2, size=(size, len(array)), dtype=np.int8) * 2 - 1
        hits += int(np.count_nonzero(np.abs(signs @ array) >= observed))
        done += size
    return (hits + 1) / (flips + 1)


def compare(
    a: Sequence[Sequence[float]],
    b: Sequence[Sequence[float]],
    *,
    higher_is_better: bool = True,
    level: float = 0.95,
    draws: int = BOOTSTRAP_DRAWS,
) -> Paired:
    """Compares two models on the same items; ``a`` and ``b`` hold one list of item values per seed.

    Seeds are averaged within each item, and items are the unit that is resampled and flipped: seeds of one item are
    not independent evidence. Pass/fail with one seed on each side is the exact McNemar test; pass/fail with several
    seeds the exact sign-flip test on the items' mean differences; other scores the sampled sign-flip test.
    Raises ValueError where the numbers of items differ or there are none.
    """
    lengths = {len(row) for row in (*a, *b)}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"paired comparison needs the same items on both sides, got lengths {sorted(lengths)}")
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    # Scaled by both numbers of seeds, pass/fail differences are whole numbers, and equal means compare equal.
    scaled = left.sum(axis=0) * len(right) - right.sum(axis=0) * len(left)
    scale = len(left) * len(right)
    pass_fail = bool(np.isin(left, (0.0, 1.0)).all() and np.isin(right, (0.0, 1.0)).all())
    if not pass_fail:
        scaled = np.where(np.abs(scaled) < 1e-12, 0.0, scaled)
    better = scaled if higher_is_better else -scaled
    wins, losses = int((better > 0).sum()), int((better < 0).sum())
    differences = scaled / scale
    if pass_fail and scale == 1:
        p, test = mcnemar_exact(wins, losses), "exact McNemar"
    elif pass_fail and len(scaled) * np.abs(scaled).sum() <= EXACT_CELLS:
        p, test = sign_flip_exact([round(d) for d in scaled.tolist()]), "exact sign-flip over items"
    else:
        p, test = sign_flip_sampled(differences.tolist()), "sign-flip over items"
    return Paired(
        n=len(scaled),
        difference=float(differences.mean()),
        interval=matched_difference([differences.tolist()], level)
        if pass_fail
        else bootstrap(differences.tolist(), level, draws),
        wins=wins,
        losses=losses,
        ties=len(scaled) - wins - losses,
        p=p,
        test=test,
        changes=Changes(
            n=len(scaled),
            changed=wins + losses,
            sizes=tuple(sorted(np.abs(differences[scaled != 0]).tolist())),
            step=1 / scale if pass_fail else None,
        ),
    )
