"""Clustered errors: a textbook's worked example, and naive loops."""

from __future__ import annotations

import random
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.stats.clustered import (
    mean_relative_change,
    ratio_bootstrap,
    ratio_difference,
    resampled_sums,
)
from dasd_bench.stats.intervals import bootstrap

# Lohr 2010, Sampling: Design and Analysis, example 5.2: grade averages of four students in each of five suites.
SUITES = [
    [3.08, 2.60, 3.44, 3.04],
    [2.36, 3.04, 3.28, 2.68],
    [2.00, 2.56, 2.52, 1.88],
    [3.00, 2.88, 3.44, 3.64],
    [2.68, 1.92, 3.28, 3.20],
]


def test_ignoring_clusters_is_too_sure() -> None:
    values = [value for suite in SUITES for value in suite]
    clustered, plain = ratio_bootstrap([sum(suite) for suite in SUITES], [4.0] * 5), bootstrap(values)
    assert plain is not None
    assert clustered.high - clustered.low > 1.2 * (plain.high - plain.low)


def test_bootstrap_is_the_naive_loop() -> None:
    """Whole suites drawn one by one in plain Python; unequal sizes."""
    groups = [*SUITES[:4], [1.9, 3.9]]
    rng = random.Random(1)
    means = []
    for _ in range(20_000):
        drawn = [value for _ in groups for value in groups[rng.randrange(len(groups))]]
        means.append(fmean(drawn))
    found = ratio_bootstrap([sum(group) for group in groups], [float(len(group)) for group in groups])
    assert found.low == pytest.approx(float(np.quantile(means, 0.025)), abs=0.02)
    assert found.high == pytest.approx(float(np.quantile(means, 0.975)), abs=0.02)


@given(st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_resamples_have_n_rows_and_keep_pairs(n: int, seed: int) -> None:
    columns = np.stack([np.ones(n), np.arange(n), -2.0 * np.arange(n)], axis=1)
    sums = resampled_sums(columns, draws=50, seed=seed)
    assert (sums[:, 0] == n).all()
    assert np.allclose(sums[:, 2], -2 * sums[:, 1])


def test_ratio_difference_pairs_its_texts() -> None:
    """A gain of .1 nat on every token is certain, however unlike the texts are."""
    sizes = np.array([10.0, 50.0, 3.0, 0.0])
    b = np.array([30.0, 20.0, 9.0, 0.0])
    difference, interval = ratio_difference(b - 0.1 * sizes, b, sizes)
    assert difference == pytest.approx(-0.1)
    assert (interval.low, interval.high) == (pytest.approx(-0.1), pytest.approx(-0.1))
    alone = ratio_bootstrap(b, sizes)
    assert alone.low < 59 / 63 < alone.high


def test_mean_relative_change_by_hand() -> None:
    found = mean_relative_change([([1, 1, 1, 0], [1, 0, 1, 0]), ([0, 0, 1, 0], [1, 0, 1, 0])])
    assert found is not None
    assert found[0] == pytest.approx((0.5 - 0.5) / 2)
    same = mean_relative_change([([1, 0, 1], [1, 0, 1])])
    assert same is not None
    assert same[0] == 0.0
    assert same[1].low < 0 < same[1].high, "no change seen is not certainty of no change"
    graded = mean_relative_change([([20.0, 30.0], [20.0, 30.0])])
    assert graded is not None
    assert (graded[0], graded[1].low, graded[1].high) == (0.0, 0.0, 0.0)
    assert mean_relative_change([([1, 0], [0, 0])]) is None
    assert mean_relative_change([]) is None
