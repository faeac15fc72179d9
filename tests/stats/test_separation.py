"""AUC and replacement rates of clustered tokens, against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm

from dasd_bench.stats.separation import at_rate, clustered_auc, replacement, roc


@st.composite
def tokens(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size = draw(st.integers(2, 40))
    score = np.array(draw(st.lists(st.integers(-3, 3), min_size=size, max_size=size)), dtype=np.float64)
    freed = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    freed[0], freed[1] = True, False
    cluster = np.array(draw(st.lists(st.integers(5, 9), min_size=size, max_size=size)))
    return score, freed, cluster


@given(tokens())
@settings(max_examples=60, deadline=None)
def test_auc_is_scipys_mann_whitney_statistic(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    score, freed, cluster = case
    found = clustered_auc(score, freed, cluster, draws=50)
    statistic = mannwhitneyu(score[freed], score[~freed]).statistic
    assert found is not None
    assert found.value == pytest.approx(statistic / (freed.sum() * (~freed).sum()))
    x, y = roc(score, freed)
    assert np.trapezoid(y, x) == pytest.approx(found.value)
    if found.low is not None and found.high is not None:
        assert 0 <= found.low <= found.high <= 1


def test_auc_interval_is_that_of_resampled_texts() -> None:
    """The same draws of clusters, each AUC by counting pairs of the resampled tokens."""
    rng = np.random.default_rng(3)
    cluster = rng.integers(0, 12, size=90)
    freed = rng.random(90) < 0.6
    score = np.round(rng.normal(size=90) + 0.5 * freed, 1)
    found = clustered_auc(score, freed, cluster, draws=200, seed=1)
    assert found is not None
    again, values = np.random.default_rng(1), []
    for counts in again.multinomial(12, np.full(12, 1 / 12), size=200):
        rows = np.concatenate([np.repeat(np.flatnonzero(cluster == c), n) for c, n in enumerate(counts)])
        up, down = score[rows][freed[rows]], score[rows][~freed[rows]]
        values.append(np.mean((up[:, None] > down) + 0.5 * (up[:, None] == down)))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-9)


def test_auc_interval_covers_the_truth() -> None:
    """Clustered normal scores with a known AUC: the interval that ignores clusters would cover far less than this."""
    rng = np.random.default_rng(0)
    truth = norm.cdf(0.8 / np.sqrt(2 * (1 + 0.5**2)))
    hits = 0
    for trial in range(120):
        cluster = np.repeat(np.arange(50), 6)
        freed = rng.random(300) < 0.7
        score = rng.normal(size=300) + 0.5 * np.repeat(rng.normal(size=50), 6) + 0.8 * freed
        found = clustered_auc(score, freed, cluster, draws=300, seed=trial)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    # 95 % of 120 is 114; fewer than 105 has a chance of 1 in 5000 at nominal coverage.
    assert hits >= 105


@given(tokens(), st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_replacement_at_a_rate_meets_it_and_takes_the_highest_scores(
    case: tuple[np.ndarray, np.ndarray, np.ndarray], rate: float
) -> None:
    score, freed, cluster = case
    taken = at_rate(score, rate)
    assert taken.sum() == pytest.approx(rate * len(score))
    for value in np.unique(score):
        assert len(set(taken[score == value])) == 1
        if taken[score == value][0] > 0:
            assert (taken[score > value] == pytest.approx(1.0)) or not (score > value).any()
    found = replacement(taken, freed, cluster, draws=20)
    assert found.recall is not None
    assert found.lost is not None
    assert found.recall.value == pytest.approx(taken[freed].mean())
    assert found.lost.value == pytest.approx(taken[~freed].mean())
    if found.precision is not None:
        assert found.precision.value == pytest.approx(taken[freed].sum() / taken.sum())


def test_one_kind_has_no_auc() -> None:
    assert clustered_auc(np.arange(3.0), np.ones(3, dtype=bool), np.arange(3)) is None
    lone = clustered_auc(np.arange(3.0), np.array([True, False, False]), np.array([1, 1, 1]))
    assert lone is not None
    assert (lone.value, lone.low) == (0.0, None)
