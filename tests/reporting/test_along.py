"""Scores along training, answer lengths and the cost table: numbers that can be checked on paper."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dasd_bench.reporting.along import along_table
from dasd_bench.reporting.cost import cost_table
from dasd_bench.reporting.lengths import answer_table
from dasd_bench.reporting.plots import Nothing, Plot, Source, draw
from dasd_bench.reporting.show import run_tables
from dasd_bench.results.runs import load_run
from dasd_bench.results.schema import AnswerStats, PointScores, RunResults, TargetCost, TrainStats


def collapsing(build: SimpleNamespace) -> RunResults:
    """sft: 16 of 20 at a half, 12 at the end; dasd was not looked at."""
    run: RunResults = build.run()
    half = {"gsm8k": build.score("1" * 16 + "0" * 4)}
    run.arms[0].seeds[0].points = [PointScores(0.5, 5, 3200, 3000, half)]
    return run


def test_a_fall_is_in_the_table_and_its_caption(build: SimpleNamespace) -> None:
    table = along_table([collapsing(build)])
    assert [(row.group, row.label, row.cell("gsm8k").text) for row in table.rows] == [
        ("sft", "base", "50.0"),
        ("sft", "50 %", "80.0"),
        ("sft", "100 %", "60.0"),
    ]
    assert [row.cell("gsm8k").rank for row in table.rows] == [0, 1, 2]
    assert [row.cell("steps").value for row in table.rows] == [0, 5, 10]
    assert [row.cell("kept").value for row in table.rows] == [0, 3000, 6000]
    assert any("Lower at the end than earlier: sft on gsm8k, 20.0 points from 50 %." in line for line in table.caption)
    assert "along" in [one.key for one in run_tables([collapsing(build)])]


def test_a_run_that_looked_at_the_end_alone_has_no_such_table(build: SimpleNamespace, tmp_path: Path) -> None:
    assert along_table([build.run()]).rows == []
    path = build.write(tmp_path, build.run())
    (found,) = draw([Source(path, load_run(path))], ["along"])
    assert isinstance(found, Nothing)
    assert "training.evaluate_at=0.25,0.5,1" in found.why


def test_the_figure_says_the_same(build: SimpleNamespace, tmp_path: Path) -> None:
    path = build.write(tmp_path, collapsing(build))
    (plot,) = draw([Source(path, load_run(path))], ["along"])
    assert isinstance(plot, Plot)
    assert plot.alt == "sft on gsm8k: 50.0 at 0 %, 80.0 at 50 %, 60.0 at 100 %"


def test_a_task_whose_last_evaluation_failed_keeps_its_earlier_scores(build: SimpleNamespace, tmp_path: Path) -> None:
    run = collapsing(build)
    del run.arms[0].seeds[0].scores["gsm8k"]
    cells = {row.label: row.cell("gsm8k").text for row in along_table([run]).rows}
    assert (cells["50 %"], cells["100 %"]) == ("80.0", "–")
    path = build.write(tmp_path, run)
    (plot,) = draw([Source(path, load_run(path))], ["along"])
    assert isinstance(plot, Plot)
    assert plot.alt == "sft on gsm8k: 50.0 at 0 %, 80.0 at 50 %"


def test_seeds_that_stopped_early_have_no_part_in_later_points(build: SimpleNamespace) -> None:
    """Two seeds; one was stopped before its second half."""
    scores = {"gsm8k": build.score("1" * 12 + "0" * 8)}
    run = build.run(arms=[build.arm("sft", {0: scores, 1: scores})], seeds=[0, 1])
    for one, bits in zip(run.arms[0].seeds, ("1" * 10 + "0" * 10, "1" * 14 + "0" * 6), strict=True):
        one.points = [PointScores(0.25, 2, 100, 100, {"gsm8k": build.score(bits)})]
    run.arms[0].seeds[0].points.append(PointScores(0.75, 7, 300, 300, {"gsm8k": build.score("1" * 20)}))
    cells = {row.label: row.cell("gsm8k") for row in along_table([run]).rows}
    assert (cells["25 %"].text, cells["75 %"].text, cells["100 %"].text) == ("60.0", "100.0", "60.0")
    assert cells["25 %"].spread == pytest.approx(0.1414, abs=1e-4)
    assert cells["75 %"].spread is None


def test_answer_lengths_stand_beside_scores(build: SimpleNamespace) -> None:
    run = build.run()
    assert answer_table([run]).rows == []
    run.base["gsm8k"].answers = AnswerStats(20, 90.04, 0.05)
    run.arms[0].seeds[0].scores["gsm8k"].answers = AnswerStats(20, 41.5, 0.9)
    table = answer_table([run])
    assert [column.key for column in table.columns] == ["gsm8k:score", "gsm8k:tokens", "gsm8k:cut"]
    found = {row.label: [row.cell(column.key).text for column in table.columns] for row in table.rows}
    assert found == {"base": ["50.0", "90.0", "5.0"], "sft": ["60.0", "41.5", "90.0"]}


def test_cost_has_what_a_fair_comparison_needs(build: SimpleNamespace) -> None:
    run = build.run()
    sft, dasd = (arm.seeds[0] for arm in run.arms)
    old = TrainStats(10, 6400, 6000, 61.0, 0.8, 1.5)
    sft.train_stats = replace(old, nll=1.25, clipped_steps=3, generated_tokens=0)
    sft.target_cost = TargetCost(0, 0, 0.25)
    short = {"budget_tokens": 8000, "missed_tokens": 2000}
    dasd.train_stats = replace(old, nll=0.5, clipped_steps=0, generated_tokens=70, **short)
    dasd.target_cost = TargetCost(5000, 0, 30.0)
    table = cost_table([run])
    cells = {row.label: {key: cell.text for key, cell in row.cells.items()} for row in table.rows}
    keys = ("generated_tokens", "target_seconds", "train_seconds", "nll", "clipped")
    assert [cells["sft"][key] for key in keys] == ["0", "0.2", "61.0", "1.250", "30.0"]
    assert [cells["dasd"][key] for key in keys] == ["5,070", "30.0", "61.0", "0.500", "0.0"]
    assert "round_tokens" not in [column.key for column in table.columns]
    assert any("Not matched: dasd seed 0 used 6,000 of 8,000 tokens." in line for line in table.caption)


def test_an_old_run_lacks_columns_and_not_its_table(build: SimpleNamespace) -> None:
    keys = [column.key for column in cost_table([build.run()]).columns]
    assert keys[:4] == ["steps", "target_tokens", "kept_tokens", "train_seconds"]
    assert not {"nll", "clipped", "generated_tokens", "target_seconds"} & set(keys)
