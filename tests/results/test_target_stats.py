"""Target diagnostics from six tokens that can be added up by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dasd_bench.api import Note
from dasd_bench.results.target_stats import note_stats, target_stats
from dasd_bench.types import Example, Origin, ScoredTarget, Target, TokenScores, WeightedTarget

NOTES = (
    Note("gated_replaced", "in gated", "share", of="gated_tokens"),
    Note("gate_broke", "gate broke"),
    Note("gate_mended", "gate fixed"),
    Note("ungated_right", "ungated", "share"),
)


def scored(
    ppl: list[float],
    origin: Origin | list[int],
    *,
    accepted: bool = True,
    reason: str = "gold",
    name: str = "x",
    **notes: float,
) -> ScoredTarget:
    logp = -np.log(np.array(ppl)).astype(np.float32)
    zeros = np.zeros(len(ppl), dtype=np.float32)
    target = Target(
        example_id=name,
        token_ids=np.zeros(len(ppl), dtype=np.int32),
        origin=np.zeros(len(ppl), dtype=np.uint8) + np.array(origin, dtype=np.uint8),
        marks=np.zeros(len(ppl), dtype=np.uint8),
        text="",
        accepted=accepted,
        reason=reason,
        notes=notes,
    )
    scores = TokenScores(logp, zeros, zeros, np.zeros(len(ppl), dtype=np.int32))
    return ScoredTarget(Example("x", "t", "q", "a"), target, scores)


def test_by_hand() -> None:
    gated = scored(
        [1.0, 2.0, 4.0, 16.0],
        [1, 2, 1, 1],
        reason="gated",
        gated_tokens=4.0,
        gated_replaced=1.0,
        gate_broke=0.0,
        gate_mended=1.0,
        ungated_right=0.0,
    )
    gold = scored(
        [32.0, 2.0],
        Origin.GOLD,
        accepted=False,
        name="y",
        reason="gold:wrong",
        gated_tokens=6.0,
        gated_replaced=4.0,
        gate_broke=1.0,
        gate_mended=0.0,
        ungated_right=1.0,
    )
    weights = [np.array([1, 0, 1, 1], np.float32), np.array([0, 0.5], np.float32)]
    stats = target_stats(list(map(WeightedTarget.of, [gated, gold], weights)), n_examples=4, notes=NOTES)
    assert (stats.n, stats.tokens, stats.dropped, stats.accepted) == (2, 6, 2, 1)
    # ln(1 * 2 * 4 * 16 * 32 * 2) = 13 ln 2, over 6 tokens
    assert stats.mean_nll == pytest.approx(12 * math.log(2) / 6 + math.log(2) / 6, rel=1e-6)
    assert stats.ppl == pytest.approx(2 ** (13 / 6), rel=1e-6)
    assert stats.hpr == {"2.5": 3 / 6, "10": 2 / 6, "25": 1 / 6}
    assert stats.acceptance == 0.25
    assert stats.reasons == {"gated": 1, "gold:wrong": 1}
    assert (stats.gold_share, stats.mean_length) == (0.5, 3.0)
    assert stats.weight_zero_share == 2 / 6
    assert stats.base_share == 1 / 6
    assert {note.name: note.value for note in stats.notes} == {
        "gated_replaced": 5 / 10,
        "gate_broke": 1,
        "gate_mended": 1,
        "ungated_right": 0.5,
    }
    assert (stats.notes[0].title, stats.notes[0].how, stats.notes[0].n) == ("in gated", "share", 2)
    assert sum(stats.histogram_counts) == 6
    # nll: 0, .69, 1.39, 2.77, 3.47, .69 in bins of a quarter nat
    bins = {i for i, count in enumerate(stats.histogram_counts) if count}
    assert bins == {0, 2, 5, 11, 13}
    assert stats.histogram_counts[2] == 2


def test_what_a_method_does_not_count_is_none() -> None:
    stats = target_stats([WeightedTarget.of(scored([2.0], Origin.GOLD), np.ones(1, np.float32))], notes=NOTES)
    assert stats.base_share is None
    assert stats.notes == []
    assert (stats.gold_share, stats.acceptance, stats.dropped) == (1.0, 1.0, 0)


def test_no_targets_are_not_perfect_targets() -> None:
    stats = target_stats([], n_examples=3)
    assert math.isnan(stats.ppl)
    assert (stats.n, stats.dropped, stats.acceptance) == (0, 3, 0.0)


def test_the_open_bin_takes_the_largest_nll() -> None:
    stats = target_stats([WeightedTarget.of(scored([math.exp(40)], Origin.GOLD), np.ones(1, np.float32))])
    assert stats.histogram_counts[-1] == 1


@pytest.mark.parametrize(
    ("note", "value"),
    [
        (Note("a", "a"), 5.0),
        (Note("a", "a", "mean"), 2.5),
        (Note("a", "a", "share"), 2.5),
        (Note("a", "a", "share", of="b"), 5 / 20),
    ],
)
def test_notes_are_of_the_targets_that_carry_them(note: Note, value: float) -> None:
    """The total of ``b`` is of the targets that carry ``a``: the third target was never asked."""
    found = note_stats(note, [{"a": 2.0, "b": 4.0}, {"a": 3.0, "b": 16.0}, {"b": 7.0}])
    assert found is not None
    assert (found.value, found.n) == (value, 2)


def test_a_share_of_nothing_has_no_value() -> None:
    found = note_stats(Note("a", "a", "share", of="b"), [{"a": 0.0}])
    assert found is not None
    assert found.value is None
