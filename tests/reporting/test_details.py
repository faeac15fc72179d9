"""Targets, cost and breakdowns."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dasd_bench.errors import UsageError
from dasd_bench.reporting.cost import cost_table
from dasd_bench.reporting.details import group_table, reason_table, target_table
from dasd_bench.reporting.scores import run_table
from dasd_bench.reporting.table import MISSING
from dasd_bench.stats.intervals import wilson


def test_targets(build: SimpleNamespace) -> None:
    run = build.run()
    notes = [
        build.note("gate_broke", 12),
        build.note("ungated", 0.675, how="share", shown=False, help="rewrites that are correct"),
        build.note("tries", 2.5, "tries each", how="mean"),
    ]
    stats = build.targets(base_share=0.015, notes=notes)
    run.arms[1].seeds[0].target_stats = stats
    table = target_table([run])
    sft, dasd = table.rows
    assert dasd.cell("ppl").text == "2.46"
    assert dasd.cell("hpr2.5").text == "0.280"
    keys = ("from_base", "note:gate_broke", "note:ungated", "note:tries")
    assert [dasd.cell(key).text for key in keys] == ["1.5", "12", "67.5", "2.50"]
    assert [sft.cell(key).text for key in keys] == [MISSING] * 4
    assert [column.title for column in table.columns[-3:]] == ["gate\nbroke", "ungated\n%", "tries\neach"]
    assert "note:ungated" not in [column.key for column in table.shown()]
    assert any("Ungated: rewrites that are correct." in line for line in table.sentences(notes=True))
    assert any(
        "dasd targets: gated 18, gold:wrong 18, rewrite:wrong 4." in line for line in table.sentences(notes=True)
    )


def test_a_run_whose_methods_count_nothing_has_no_such_columns(build: SimpleNamespace) -> None:
    assert not [column.key for column in target_table([build.run()]).columns if column.key.startswith("note:")]


def test_targets_that_differ_by_seed_are_averaged(build: SimpleNamespace) -> None:
    score = {"gsm8k": build.score("10" * 10)}
    arm = build.arm("dasd", {0: score, 1: score})
    arm.seeds[0].target_stats = build.targets(notes=[build.note("gate_broke", 3)])
    arm.seeds[1].target_stats = build.targets(notes=[build.note("gate_broke", 4)])
    table = target_table([build.run(arms=[arm], seeds=[0, 1])])
    assert table.rows[0].cell("note:gate_broke").text == "3.5"
    assert any("Means over seeds." in line for line in table.caption)


def test_cost(build: SimpleNamespace) -> None:
    table = cost_table([build.run()])
    shared, sft, dasd = table.rows
    assert shared.cell("stage:score").text == "4.0s"
    assert sft.cell("stage:train").text == "1m01s"
    assert dasd.cell("stage:train").text == "reused"
    assert dasd.cell("stage:targets").text == "30.0s"
    assert (sft.cell("target_tokens").text, sft.cell("kept_tokens").text) == ("6,400", "6,000")
    assert any("in this run: 1m35s" in line for line in table.caption)


def test_by_level(build: SimpleNamespace) -> None:
    levels = "1" * 10 + "2" * 6 + "10"[0] * 0 + "3" * 4
    base = {"gsm8k": build.score("1" * 10 + "0" * 10, levels=levels)}
    arm = build.arm("sft", {0: {"gsm8k": build.score("1" * 12 + "0" * 8, levels=levels)}})
    table = group_table([build.run(base=base, arms=[arm])], "level")
    assert [column.key for column in table.columns] == ["gsm8k:1", "gsm8k:2", "gsm8k:3"]
    assert "n = 6" in table.columns[1].title
    cell = table.rows[1].cell("gsm8k:2")
    assert cell.value == pytest.approx(2 / 6)
    assert (cell.low, cell.n) == (wilson(2, 6).low, 6)
    with pytest.raises(UsageError, match=r"has a subjct for its items. Use level, seed\."):
        group_table([build.run(base=base, arms=[arm])], "subjct")


def test_levels_are_in_natural_order(build: SimpleNamespace) -> None:
    score = build.score("1" * 4)
    score.groups = {"level": ["Level 10", "Level 2", "Level 2", "Level 10"]}
    run = build.run(tasks=[build.task(n=4)], base={"gsm8k": score}, arms=[])
    assert [c.key for c in group_table([run], "level").columns] == ["gsm8k:Level 2", "gsm8k:Level 10"]


def test_by_seed(build: SimpleNamespace) -> None:
    seeds = {0: {"gsm8k": build.score("1" * 12 + "0" * 8)}, 3: {"gsm8k": build.score("1" * 15 + "0" * 5)}}
    table = group_table([build.run(arms=[build.arm("sft", seeds)], seeds=[0, 3])], "seed")
    assert [(r.label, r.cell("gsm8k").text) for r in table.rows] == [
        ("base", "50.0"),
        ("sft seed 0", "60.0"),
        ("sft seed 3", "75.0"),
    ]


def test_failures_are_kept_apart_from_wrong_answers(build: SimpleNamespace) -> None:
    assert reason_table([build.run()]).rows == [], "nothing but right and wrong: no table"
    run = build.run()
    run.arms[1].seeds[0].scores["gsm8k"].reasons = {"correct": 15, "no_answer": 3, "infrastructure_error": 2}
    table = reason_table([run])
    assert [column.key for column in table.columns] == ["gsm8k:no_answer", "gsm8k:infrastructure_error"]
    assert [row.cell("gsm8k:no_answer").text for row in table.rows] == ["0", "0", "3"]
    (warning,) = run_table([run]).warnings
    assert "gsm8k: 2 answers were lost to infrastructure errors and count as wrong" in warning
