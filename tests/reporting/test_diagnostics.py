"""The diagnostic tables and the grouping by confidence, from results whose numbers can be checked on paper."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dasd_bench.evaluation.confidence import answer_confidence, choice_confidence
from dasd_bench.reporting.details import QUARTILES, group_table, quartiles
from dasd_bench.reporting.diagnostics import class_table, diagnostic_tables, histogram_table, nll_table, outcome_table
from dasd_bench.reporting.table import Cell, Table
from dasd_bench.results.schema import ClassStats, OwnNll, ReferenceNll, RunResults


def cell(table: Table, label: str, key: str) -> Cell:
    return next(row for row in table.rows if row.label == label).cell(key)


def nll(shift: float) -> ReferenceNll:
    """Twenty items of 10 tokens, two of them numeric in every second item; ten right answers of 4 tokens each."""
    per_item = [1.0 + number / 20 + shift for number in range(20)]
    numbers = [2 * (number % 2) for number in range(20)]
    own = OwnNll(0.5 + shift, list(range(10)), [0.5 + shift] * 10, [4] * 10)
    return ReferenceNll(
        sum(per_item) / 20,
        2.0 + shift,
        per_item,
        [2.0 + shift if count else 0.0 for count in numbers],
        [10] * 20,
        numbers,
        own,
    )


@pytest.fixture
def run(build: SimpleNamespace) -> RunResults:
    made = build.run()
    made.base["gsm8k"].reference_nll = nll(0.0)
    made.base["gsm8k"].confidence = [number / 20 for number in range(20)]
    made.arms[0].seeds[0].scores["gsm8k"].reference_nll = nll(-0.2)
    made.arms[1].seeds[0].scores["gsm8k"].reference_nll = nll(0.1)
    stats = made.arms[1].seeds[0].target_stats
    stats.classes = {
        "numeric": ClassStats(800, 1.2, 300, 0, 600, 30),
        "wording": ClassStats(2000, 0.8, 400, 100, 1500, 15),
        "format": ClassStats(400, 0.5, 50, 0, 300, 0),
    }
    stats.auc_confidence, stats.lengths = 0.45, [40, 80, 120, 200]
    stats.notes = [build.note("gate_broke", 5), build.note("gate_mended", 1), build.note("share", 0.5, how="share")]
    stats.histogram_edges, stats.histogram_counts = [i * 0.25 for i in range(49)], [64] * 49
    return made


def test_nll_changes_are_paired(run: RunResults) -> None:
    table = nll_table(run)
    assert [row.label for row in table.rows] == [
        "gsm8k: reference, all tokens",
        "gsm8k: reference, numeric tokens",
        "gsm8k: base's own correct answers",
    ]
    gain = cell(table, "gsm8k: reference, all tokens", "sft")
    # Every token moved by the same amount: the paired interval has no width, however unlike the items are.
    assert (gain.text, gain.value) == ("-0.200", pytest.approx(-0.2))
    assert (gain.low, gain.high) == (pytest.approx(-0.2), pytest.approx(-0.2))
    numeric = cell(table, "gsm8k: reference, numeric tokens", "base")
    assert numeric.value == pytest.approx(2.0)
    assert cell(table, "gsm8k: reference, numeric tokens", "n").text == "10"
    assert cell(table, "gsm8k: reference, numeric tokens", "tokens").text == "20"
    assert cell(table, "gsm8k: base's own correct answers", "dasd").text == "+0.100"


def test_classes_and_outcomes(run: RunResults) -> None:
    classes = class_table([run])
    assert cell(classes, "dasd", "numeric:replaced").text == "5.0"
    assert cell(classes, "dasd", "wording:replaced").text == "1.0"
    assert cell(classes, "dasd", "wording:zero").text == "5.0"
    assert cell(classes, "dasd", "numeric:hpr").value == pytest.approx(0.375)
    outcomes = outcome_table([run])
    assert cell(outcomes, "dasd", "note:gate_broke").text == "5"
    assert "note:share" not in [column.key for column in outcomes.columns]
    assert cell(outcomes, "dasd", "reason:gold:wrong").text == "18"


def test_histogram_shares_add_up(run: RunResults) -> None:
    (row,) = histogram_table([run]).rows
    assert sum(one.value or 0 for one in row.cells.values()) == pytest.approx(1.0)


def test_all_tables(run: RunResults) -> None:
    assert [table.key for table in diagnostic_tables([run])] == ["targets", "classes", "outcomes", "histogram", "nll"]
    targets = diagnostic_tables([run])[0]
    assert cell(targets, "dasd", "auc_confidence").text == "0.450"
    assert cell(targets, "dasd", "length_50").text == "80"


def test_accuracy_by_the_bases_confidence(run: RunResults) -> None:
    table = group_table([run], "confidence")
    assert [column.key for column in table.columns] == [f"gsm8k:{name}" for name in QUARTILES]
    assert [cell(table, "base", f"gsm8k:{name}").text for name in QUARTILES] == ["100.0", "100.0", "0.0", "0.0"]
    assert [cell(table, "dasd", f"gsm8k:{name}").text for name in QUARTILES] == ["100.0", "100.0", "100.0", "0.0"]
    assert cell(table, "dasd", f"gsm8k:{QUARTILES[2]}").p == pytest.approx(2 / 2**5)
    assert "Q1: least confident" in " ".join(table.caption)


@given(st.lists(st.floats(0, 1, allow_subnormal=False), min_size=4, max_size=60, unique=True))
def test_quartiles_are_equal_parts_in_order(values: list[float]) -> None:
    names = quartiles(values)
    sizes = [names.count(name) for name in QUARTILES]
    assert max(sizes) - min(sizes) <= 1
    ordered = [name for _, name in sorted(zip(values, names, strict=True))]
    assert ordered == sorted(names)
    assert quartiles([0.5] * 9) == [QUARTILES[0]] * 9


def test_confidence_of_an_answer() -> None:
    import numpy as np

    assert answer_confidence(np.log(np.array([0.5, 0.125], dtype=np.float32))) == pytest.approx(0.25)
    assert answer_confidence(np.zeros(0, dtype=np.float32)) == 0.0
    assert choice_confidence([-1.0, -1.0], [1, 1]) == 0.5
    assert choice_confidence([-10.0, -30.0], [10, 30]) == 0.5
