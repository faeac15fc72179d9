"""Clustered errors: a textbook's worked example, and naive loops."""

from __future__ import annotations

import math
import random
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.stats.clustered import (
    clustered_bootstrap,
    clustered_error,
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
VALUES = [value for suite in SUITES for value in suite]
CLUSTERS = [number for number, suite in enumerate(SUITES) for _ in suite]


def test_lohr_example_5_2() -> None:
    """Mean 2.826 with standard error .164, where 5 of 100 suites were drawn."""
    assert fmean(VALUES) == pytest.approx(2.826, abs=5e-4)
    assert clustered_error(VALUES, CLUSTERS) * math.sqrt(1 - 5 / 100) == pytest.approx(0.164, abs=5e-4)


def test_ignoring_clusters_is_too_sure() -> None:
    assert clustered_error(VALUES, CLUSTERS) > 1.3 * stdev(VALUES) / math.sqrt(len(VALUES))
    clustered, plain = clustered_bootstrap(VALUES, CLUSTERS), bootstrap(VALUES)
    assert clustered is not None
    assert plain is not None
    assert clustered.high - clustered.low > 1.2 * (plain.high - plain.low)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30))
def test_single_clusters_are_the_usual_error(values: list[float]) -> None:
    usual = stdev(values) / math.sqrt(len(values))
    assert clustered_error(values, range(len(values))) == pytest.approx(usual, abs=1e-9)


def test_copies_of_an_item_add_nothing() -> None:
    values, clusters = [1.0, 0.0, 1.0, 1.0, 0.0], ["a", "b", "c", "d", "e"]
    once, thrice = clustered_bootstrap(values, clusters), clustered_bootstrap(values * 3, clusters * 3)
    assert clustered_error(values * 3, clusters * 3) == pytest.approx(clustered_error(values, clusters))
    assert (once.low, once.high) == (pytest.approx(thrice.low), pytest.approx(thrice.high))  # type: ignore[union-attr]


def test_bootstrap_is_the_naive_loop() -> None:
    """Whole suites drawn one by one in plain Python; unequal sizes."""
    groups = [*SUITES[:4], [1.9, 3.9]]
    rng = random.Random(1)
    means = []
    for _ in range(20_000):
        drawn = [value for _ in groups for value in groups[rng.randrange(len(groups))]]
        means.append(fmean(drawn))
    found = clustered_bootstrap([v for g in groups for v in g], [n for n, g in enumerate(groups) for _ in g])
    assert found is not None
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


def test_one_cluster_has_no_error() -> None:
    assert math.isnan(clustered_error([1.0, 2.0], ["a", "a"]))
    assert clustered_bootstrap([], []) is None
