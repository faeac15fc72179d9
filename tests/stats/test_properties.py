"""What must hold for any input, against naive loops."""

from __future__ import annotations

import itertools
import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from dasd_bench.stats.intervals import bootstrap, bootstrap_means, matched_difference, wilson
from dasd_bench.stats.multiple import holm, stars
from dasd_bench.stats.paired import compare, mcnemar_exact, sign_flip_exact, sign_flip_sampled

bits = st.integers(0, 1)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_mirrors(case: tuple[int, int]) -> None:
    k, n = case
    one, other = wilson(k, n), wilson(n - k, n)
    assert 0 <= one.low <= k / n <= one.high <= 1
    assert (one.low, one.high) == (pytest.approx(1 - other.high), pytest.approx(1 - other.low))
    assert one.high > one.low


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_its_formula(case: tuple[int, int]) -> None:
    """Wilson 1927: the roots p of (k / n - p)^2 = z^2 p (1 - p) / n."""
    k, n = case
    z2 = 1.959963984540054**2
    roots = np.sort(np.roots([1 + z2 / n, -(2 * k / n + z2 / n), (k / n) ** 2]).real)
    interval = wilson(k, n)
    assert (interval.low, interval.high) == (pytest.approx(roots[0], abs=1e-9), pytest.approx(roots[1], abs=1e-9))


def test_wilson_refuses_impossible_counts() -> None:
    for k, n in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match=r"(k|n) "):
            wilson(k, n)


@given(st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_mcnemar_is_the_sum_in_whole_numbers(b: int, c: int) -> None:
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1))
    assert mcnemar_exact(b, c) == pytest.approx(min(1.0, float(2 * tail / 2 ** (b + c))), rel=1e-9)


@given(st.lists(st.integers(-4, 4), max_size=9))
def test_sign_flip_is_the_naive_enumeration(differences: list[int]) -> None:
    observed = abs(sum(differences))
    patterns = list(itertools.product((1, -1), repeat=len(differences)))
    hits = sum(abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= observed for signs in patterns)
    assert sign_flip_exact(differences) == pytest.approx(hits / len(patterns))


@given(st.integers(0, 30), st.integers(0, 30))
def test_sign_flip_of_single_steps_is_mcnemar(wins: int, losses: int) -> None:
    assert sign_flip_exact([1] * wins + [-1] * losses) == pytest.approx(mcnemar_exact(wins, losses))


def test_sampled_sign_flip_agrees_with_scipys_permutation_test() -> None:
    differences = np.random.default_rng(5).normal(0.3, 1.0, 12)
    peer = scipy_stats.permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=10_000)
    assert sign_flip_sampled(differences.tolist()) == pytest.approx(peer.pvalue, abs=0.02)
    assert sign_flip_sampled([0.0, 0.0]) == 1.0


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_the_step_down_definition(ps: list[float]) -> None:
    adjusted = holm(ps)
    for alpha in (0.001, 0.01, 0.05, 0.2, 0.7):
        rejected: set[int] = set()
        for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
            if ps[index] * (len(ps) - rank) > alpha:
                break
            rejected.add(index)
        assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected
    assert all(a >= p for a, p in zip(adjusted, ps, strict=True))


def test_stars() -> None:
    assert [stars(p) for p in (0.009, 0.01, 0.049, 0.05)] == ["**", "*", "*", ""]


@pytest.mark.parametrize("distinct", [2, 500])
def test_bootstrap_means_have_the_spread_of_theory(distinct: int) -> None:
    """Both ways of resampling (counts for few values, indices for many): sd of the mean is sd / sqrt(n)."""
    values = np.random.default_rng(0).random(500) if distinct > 2 else np.arange(500) % 2
    means = bootstrap_means(values.tolist(), draws=20_000, seed=3)
    assert means.mean() == pytest.approx(values.mean(), abs=0.002)
    assert means.std() == pytest.approx(values.std() / math.sqrt(500), rel=0.03)
    assert (means == bootstrap_means(values.tolist(), draws=20_000, seed=3)).all()


def test_zero_variance_and_tiny_samples() -> None:
    interval = bootstrap([0.4] * 7)
    assert interval is not None
    assert (interval.low, interval.high) == (pytest.approx(0.4), pytest.approx(0.4))
    assert bootstrap([]) is None
    same = compare([[1, 0, 1]], [[1, 0, 1]])
    assert (same.p, same.difference, same.wins, same.losses, same.ties) == (1.0, 0.0, 0, 0, 3)
    assert same.interval is not None
    assert same.interval.low < 0 < same.interval.high, "no change seen is not certainty of no change"


@given(st.lists(st.tuples(bits, bits), min_size=1, max_size=40))
def test_compare_is_antisymmetric(pairs: list[tuple[int, int]]) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    one, other = compare([a], [b]), compare([b], [a])
    assert (one.wins, one.losses, one.p) == (other.losses, other.wins, other.p)
    assert one.difference == pytest.approx(-other.difference)
    assert one.wins + one.losses + one.ties == one.n == len(pairs)
    flipped = compare([a], [b], higher_is_better=False)
    assert (flipped.wins, flipped.losses) == (one.losses, one.wins)


def test_copies_of_a_seed_are_not_new_evidence() -> None:
    """Three identical seeds give one seed's p-value: items are the unit, not (item, seed)."""
    a, b = [1] * 12 + [0] * 8, [1] * 7 + [0] * 13
    assert compare([a, a, a], [b]).p == pytest.approx(compare([a], [b]).p) == pytest.approx(mcnemar_exact(5, 0))
    assert compare([a, a, a], [b, b]).p == pytest.approx(mcnemar_exact(5, 0))


def test_seeds_are_averaged_within_items() -> None:
    result = compare([[1, 1, 0, 0], [1, 0, 0, 1]], [[0, 1, 0, 0]])
    assert (result.wins, result.losses, result.ties) == (2, 1, 1)
    assert result.difference == pytest.approx(fmean([1.0, -0.5, 0.0, 0.5]))
    assert result.p == pytest.approx(sign_flip_exact([2, -1, 0, 1]))


def test_graded_scores_use_the_sampled_test_and_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(40), rng.random(40)
    result = compare([a.tolist()], [b.tolist()])
    assert result.test == "sign-flip over items"
    assert result.interval is not None
    assert result.interval.method == "bootstrap"
    assert result.interval.low < result.difference < result.interval.high


def test_compare_refuses_other_items() -> None:
    with pytest.raises(ValueError, match="same items"):
        compare([[1, 0]], [[1, 0, 1]])
    with pytest.raises(ValueError, match="same items"):
        compare([[]], [[]])


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=60))
def test_matched_difference_stays_in_range(differences: list[float]) -> None:
    interval = matched_difference([differences])
    assert -1 <= interval.low < interval.high <= 1


def test_average_over_tasks_is_narrower_than_one_task() -> None:
    differences = [1.0] * 10 + [-1.0] * 4 + [0.0] * 86
    one, four = matched_difference([differences]), matched_difference([differences] * 4)
    assert (four.high - four.low) * 2 == pytest.approx(one.high - one.low)
