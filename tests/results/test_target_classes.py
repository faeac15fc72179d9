"""Kinds of token, the selector's AUC and agreement with gold, against naive reference code and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.results.target_classes import (
    auc,
    class_stats,
    common_length,
    gold_agreement,
    numbers_kept,
    selector_auc,
)
from dasd_bench.results.token_classes import TokenClass, TokenClasses, class_of
from dasd_bench.types import Example, Mark, Origin, ScoredTarget, Target, TokenScores, WeightedTarget

WORDS = {1: " So", 2: " 12", 3: " +", 4: "=", 5: "\n", 6: " apples", 7: "####", 8: "<end>", 9: " 7", 10: " Thus"}
CLASSES = TokenClasses(WORDS.__getitem__, special=[8])


def made(
    ids: list[int],
    logp: list[float],
    top1: list[float],
    origin: list[int] | None = None,
    proposals: list[int] | None = None,
    marks: list[int] | None = None,
    reference: str = "So 12 + 7",
) -> ScoredTarget:
    size = len(ids)
    target = Target(
        "x",
        np.array(ids, dtype=np.int32),
        np.array(origin or [Origin.CANDIDATE] * size, dtype=np.uint8),
        np.array(marks or [0] * size, dtype=np.uint8),
        "".join(WORDS[token] for token in ids),
        True,
        "gated",
        proposals=None if proposals is None else np.array(proposals, dtype=np.int32),
    )
    zeros = np.zeros(size, dtype=np.float32)
    scores = TokenScores(np.array(logp, np.float32), np.array(top1, np.float32), zeros, np.zeros(size, dtype=np.int32))
    return ScoredTarget(Example("x", "t", "q", reference), target, scores)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (" 12", TokenClass.NUMERIC),
        ("x2", TokenClass.NUMERIC),
        (" =", TokenClass.NUMERIC),
        ("**", TokenClass.NUMERIC),
        (" apples", TokenClass.WORDING),
        (".", TokenClass.WORDING),
        (" ", TokenClass.WORDING),
        ("\n\n", TokenClass.FORMAT),
        ("####", TokenClass.FORMAT),
        ("```", TokenClass.FORMAT),
    ],
)
def test_kinds(text: str, kind: TokenClass) -> None:
    assert class_of(text) is kind


def test_marks_and_special_tokens_are_format() -> None:
    ids = np.array([2, 8, 6], dtype=np.int32)
    assert CLASSES(ids).tolist() == [TokenClass.NUMERIC, TokenClass.FORMAT, TokenClass.WORDING]
    marked = CLASSES(ids, np.array([Mark.FORMAT, Mark.END, 0], dtype=np.uint8))
    assert marked.tolist() == [TokenClass.FORMAT, TokenClass.FORMAT, TokenClass.WORDING]


def test_classes_by_hand() -> None:
    """The gate refused " 12" for " 7" and " Thus" for " So", and kept its own " +" (both streams wanted it)."""
    item = made(
        [9, 1, 3, 6, 8],
        [math.log(0.5), math.log(0.1), 0.0, math.log(0.5), 0.0],
        [0.0] * 5,
        origin=[Origin.BASE, Origin.BASE, Origin.BASE, Origin.CANDIDATE, Origin.GOLD],
        proposals=[2, 10, 3, 1, 8],
        marks=[0, 0, 0, 0, Mark.END],
    )
    found = class_stats([WeightedTarget.of(item, np.array([1, 0, 1, 1, 1], np.float32))], CLASSES)
    numeric, wording = found["numeric"], found["wording"]
    assert (numeric.tokens, wording.tokens, found["format"].tokens) == (2, 2, 1)
    assert (numeric.proposed, numeric.replaced, wording.proposed, wording.replaced) == (2, 1, 2, 1)
    assert (wording.weight_zero, numeric.weight_zero) == (1, 0)
    assert numeric.mean_nll == pytest.approx(math.log(2) / 2, rel=1e-6)
    assert (numeric.high_ppl, wording.high_ppl) == (0, 1)
    assert class_stats([], CLASSES)["numeric"].tokens == 0


def test_kind_of_a_replaced_place_is_the_refused_candidates() -> None:
    item = made([1, 6], [0.0, 0.0], [-0.1, -2.0], origin=[Origin.BASE, Origin.CANDIDATE], proposals=[2, 1])
    confidence, probability = selector_auc([item], CLASSES)
    # The sure place wanted a number, the unsure one wording: confidence says the opposite of "sure means wording".
    assert confidence == 0.0
    assert probability is None, "no number stands in the target itself"
    assert selector_auc([], CLASSES) == (None, None)


@given(st.lists(st.integers(0, 6), max_size=25), st.lists(st.integers(0, 6), max_size=25))
def test_auc_is_the_naive_count(a: list[int], b: list[int]) -> None:
    found = auc(np.array(a, dtype=np.float64), np.array(b, dtype=np.float64))
    if not a or not b:
        assert found is None
    else:
        wins = sum((x > y) + 0.5 * (x == y) for x in a for y in b)
        assert found == pytest.approx(wins / (len(a) * len(b)))


@given(st.lists(st.integers(0, 4), max_size=30), st.lists(st.integers(0, 4), max_size=30))
@settings(max_examples=150)
def test_common_length_is_the_naive_table(a: list[int], b: list[int]) -> None:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    assert common_length(a, b) == table[len(a)][len(b)]


def test_agreement_with_gold() -> None:
    gold = np.array([1, 2, 3, 9], dtype=np.int32)
    same = made([1, 2, 3, 9], [0.0] * 4, [0.0] * 4)
    other = made([1, 2, 6, 10], [0.0] * 4, [0.0] * 4)
    assert gold_agreement([same], [gold]) == 1.0
    assert gold_agreement([same, other], [gold, gold]) == pytest.approx((1 + 2 * 2 / 8) / 2)
    assert numbers_kept([same]) == 1.0
    assert numbers_kept([other]) == 0.5
    assert numbers_kept([made([1], [0.0], [0.0], reference="no number")]) is None
