"""Claims about what a comparison can detect, held against the test that :func:`compare` really runs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.stats.paired import Changes, compare, mcnemar_exact, sign_flip_exact
from dasd_bench.stats.power import (
    changed_items_needed,
    detectable_difference,
    mcnemar_power,
    paired_power,
    smallest_significant_difference,
)

SIMULATIONS = 600
"""The Monte Carlo standard error of a power of .8 is then .016."""


def simulated(changes: Changes, difference: float, alpha: float) -> float:
    """Power of ``compare`` itself on bits of ``1 / changes.step`` seeds against a base of one, item by item."""
    rng = np.random.default_rng(7)
    seeds = round(1 / (changes.step or 1.0))
    mean = float(np.mean(changes.sizes))
    changed = max(changes.changed / changes.n, difference / mean)
    better = 0.5 + difference / (2 * changed * mean)
    hits = 0
    for _ in range(SIMULATIONS):
        base = rng.integers(0, 2, changes.n)
        arm = np.tile(base, (seeds, 1))
        for item in np.flatnonzero(rng.random(changes.n) < changed):
            flipped = round(float(rng.choice(changes.sizes)) * seeds)
            base[item] = 0 if rng.random() < better else 1
            arm[:, item] = base[item]
            arm[:flipped, item] = 1 - base[item]
        hits += compare(arm.tolist(), [base.tolist()]).p < alpha
    return hits / SIMULATIONS


@pytest.mark.parametrize(
    ("changes", "alpha"),
    [
        (Changes(32, 3, (1 / 3, 2 / 3, 1.0), 1 / 3), 0.05),
        (Changes(32, 3, (1 / 3, 2 / 3, 1.0), 1 / 3), 0.05 / 28),
        (Changes(60, 14, (1 / 3,) * 9 + (1.0,) * 5, 1 / 3), 0.05 / 7),
        (Changes(200, 90, (0.5,) * 50 + (1.0,) * 40, 0.5), 0.05),
        (Changes(100, 20, (1.0,) * 20, 1.0), 0.05),
    ],
)
def test_claimed_difference_has_the_claimed_power(changes: Changes, alpha: float) -> None:
    """Exact and normal null distributions, one seed and several, corrected and not."""
    least = detectable_difference(changes, 0.8, alpha)
    assert least is not None
    assert simulated(changes, least, alpha) == pytest.approx(0.8, abs=0.05)
    assert simulated(changes, 0.7 * least, alpha) < 0.7


def test_graded_scores_have_the_claimed_power() -> None:
    sizes = tuple(np.linspace(0.05, 1.0, 20).tolist())
    changes = Changes(40, 20, sizes, None)
    least = detectable_difference(changes)
    assert least is not None
    rng = np.random.default_rng(3)
    share = max(0.5, least / np.mean(sizes))
    better = 0.5 + least / (2 * share * np.mean(sizes))
    hits = 0
    for _ in range(200):
        values = rng.choice(sizes, 40) * (rng.random(40) < share) * np.where(rng.random(40) < better, 1, -1)
        hits += compare([values.tolist()], [[0.0] * 40], draws=10).p < 0.05
    assert hits / 200 == pytest.approx(0.8, abs=0.09)


def test_three_seeds_of_32_items_cannot_show_less_than_six_steps() -> None:
    """3 seeds x 32 items: five changed items give p = .0625, six p = .031, so 6/96 = 6.25 points is the floor."""

    def p(items: int) -> float:
        arm = [[1] * items + [0] * (32 - items), [0] * 32, [0] * 32]
        return compare(arm, [[0] * 32]).p

    assert p(5) == 0.0625
    assert p(6) == 0.03125
    assert smallest_significant_difference(32, 1 / 3) == pytest.approx(6 / 96)
    assert smallest_significant_difference(32, 1 / 3, 0.05 / 28) == pytest.approx(11 / 96)
    assert smallest_significant_difference(5, 1 / 3) is None


@given(st.integers(1, 400))
def test_changed_items_needed_is_the_first_significant_number(tests: int) -> None:
    alpha = 0.05 / tests
    items = changed_items_needed(alpha)
    assert sign_flip_exact([1] * items) < alpha <= sign_flip_exact([1] * (items - 1))


@pytest.mark.parametrize("items", [6, 7, 8])
def test_no_mix_of_sizes_is_significant_below_the_floor(items: int) -> None:
    """Every multiset of item differences of up to two seeds, every direction."""
    for differences in itertools.combinations_with_replacement((-2, -1, 0, 1, 2), items):
        if abs(sum(differences)) < 6:
            assert sign_flip_exact(differences) >= 0.05


@given(
    st.integers(6, 40),
    st.lists(st.sampled_from([1, 2, 3]), max_size=6),
    st.sampled_from([0.05, 0.05 / 7, 0.05 / 28]),
)
@settings(max_examples=15, deadline=None)
def test_detectable_difference_is_never_below_its_floor(n: int, steps: list[int], alpha: float) -> None:
    changes = Changes(n, len(steps), tuple(step / 3 for step in steps), 1 / 3)
    least, floor = detectable_difference(changes, 0.8, alpha), smallest_significant_difference(n, 1 / 3, alpha)
    assert (least is None) == (floor is None)
    if least is not None and floor is not None:
        assert floor <= least <= 1


def test_sizes_drawn_and_sizes_summed_agree() -> None:
    """Two sizes that are nearly all of one kind: the simulation meets the exact McNemar power."""
    exact = paired_power(Changes(50, 20, (1.0,), 1.0), 0.4, 0.24)
    drawn = paired_power(Changes(50, 20, (1.0,) * 9_999 + (0.5,), 0.5), 0.4, 0.24)
    assert exact == mcnemar_power(50, 0.4, 0.24)
    assert drawn == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize(
    ("n", "discordance", "difference", "alpha"),
    [(9, 0.5, 0.3, 0.05), (25, 0.3, 0.2, 0.05), (40, 1.0, 0.5, 0.05), (40, 0.6, 0.5, 0.0018), (30, 1.0, 0.9, 0.0001)],
)
def test_power_is_the_naive_double_sum(n: int, discordance: float, difference: float, alpha: float) -> None:
    win = (discordance + difference) / 2
    loss = discordance - win
    total = 0.0
    for wins in range(n + 1):
        for losses in range(n + 1 - wins):
            same = n - wins - losses
            ways = math.comb(n, wins) * math.comb(n - wins, losses)
            if mcnemar_exact(wins, losses) <= alpha:
                total += ways * win**wins * loss**losses * max(0.0, 1 - discordance) ** same
    assert mcnemar_power(n, discordance, difference, alpha) == pytest.approx(total, abs=1e-9)


def test_detectable_difference_of_one_seed() -> None:
    def least(n: int, changed: int) -> float | None:
        return detectable_difference(Changes(n, changed, (1.0,) * changed, 1.0))

    assert least(5, 1) is None, "five items never reach p < .05"
    found, more = least(100, 20), least(1000, 200)
    assert found is not None
    assert more is not None
    assert mcnemar_power(100, 0.2, found) >= 0.8 > mcnemar_power(100, 0.2, found - 0.002)
    assert more < found
    assert least(100, 0) == pytest.approx(0.0779, abs=1e-3), "more items change where the difference needs it"
