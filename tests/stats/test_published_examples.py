"""Every statistic against a worked example in print."""

from __future__ import annotations

import pytest

from dasd_bench.stats.intervals import matched_difference, wilson
from dasd_bench.stats.multiple import holm
from dasd_bench.stats.paired import compare, mcnemar_exact, sign_flip_exact, sign_flip_sampled
from dasd_bench.stats.power import mcnemar_power


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_newcombe_1998_table_1(successes: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, Table I, method 3 (score without continuity correction)."""
    interval = wilson(successes, n)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_exact_mcnemar_agrees_with_fagerland_2013() -> None:
    """Fagerland, Lydersen, Laake 2013, BMC Med. Res. Methodol. 13:91: Bentur's 21 children, 1 against 7, p = .070."""
    assert mcnemar_exact(1, 7) == mcnemar_exact(7, 1) == 18 / 256


def test_sign_flip_agrees_with_fisher_1935() -> None:
    """Fisher 1935, The Design of Experiments, section 21: Darwin's maize, 863 of 32768 in each tail."""
    maize = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sum(maize) == 314
    assert sign_flip_exact(maize) == pytest.approx(2 * 863 / 32768, abs=1e-12)
    assert sign_flip_sampled(maize, flips=50_000) == pytest.approx(2 * 863 / 32768, abs=0.004)


def test_holm_agrees_with_a_textbook_table() -> None:
    """The example of four hypotheses that statistics courses share: p = .01, .04, .03, .005."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_agresti_min_agrees_with_the_formula_of_the_paper() -> None:
    """Agresti and Min 2005, section 4: (c - b) / (N + 2) +- z sqrt((b + c + 1) - (c - b)^2 / (N + 2)) / (N + 2)."""
    c, b, n = 9, 3, 50
    differences = [1.0] * c + [-1.0] * b + [0.0] * (n - b - c)
    half = 1.959964 * ((b + c + 1) - (c - b) ** 2 / (n + 2)) ** 0.5 / (n + 2)
    interval = matched_difference([differences])
    assert interval.low == pytest.approx((c - b) / (n + 2) - half, abs=1e-6)
    assert interval.high == pytest.approx((c - b) / (n + 2) + half, abs=1e-6)


def test_power_agrees_with_gpower() -> None:
    """G*Power 3.1 manual, exact McNemar test after O'Brien 2002: n = 50, odds ratio .25, 40 % discordant, one-sided."""
    assert mcnemar_power(50, 0.4, 0.24, sides=1) == pytest.approx(0.8393, abs=1e-4)
    assert mcnemar_power(50, 0.4, 0.0, sides=1) == pytest.approx(0.032578, abs=1e-6)


def test_compare_of_pass_fail_items_is_the_published_mcnemar_test() -> None:
    """The 2x2 table of Fagerland 2013 as items: 1 both, 1 only A, 7 only B, 12 neither."""
    a = [1] + [1] + [0] * 7 + [0] * 12
    b = [1] + [0] + [1] * 7 + [0] * 12
    result = compare([a], [b])
    assert (result.wins, result.losses, result.ties, result.p) == (1, 7, 13, 18 / 256)
    assert result.difference == pytest.approx(-6 / 21)
