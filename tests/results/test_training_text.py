"""How rows were trained: what cards, reports, trackers and comparisons say where arms were not trained alike."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.made_run import Size, make_run
from dasd_bench.cli.export_cmd import export_command
from dasd_bench.cli.report_cmd import report_command
from dasd_bench.cli.shared import online_methods
from dasd_bench.errors import DasdError
from dasd_bench.reporting.card import HubNames, adapters, card_text
from dasd_bench.reporting.entries import conditions_differ, find_entry, rows_differ
from dasd_bench.reporting.plots import Source
from dasd_bench.reporting.report.page import report_page
from dasd_bench.results.runs import load_run
from dasd_bench.results.schema import RunResults, TrainSummary
from dasd_bench.results.training_text import run_training_line, training_line, training_settings
from dasd_bench.run.tracking import configuration

LINES = {"sft": "LoRA r=16, lr 0.0002", "dasd": "LoRA r=64, lr 5e-05"}
DEFAULTS: dict[str, Any] = {"lr": 2e-4, "lora_rank": 16, "epochs": 2.0}
OWN: dict[str, dict[str, Any]] = {"sft": DEFAULTS, "dasd": {**DEFAULTS, "lr": 5e-5, "lora_rank": 64}}


@pytest.fixture
def older(build: SimpleNamespace) -> RunResults:
    """A run with ``--budget card`` from before arms kept their own settings."""
    found: RunResults = build.run(train=TrainSummary("", "budget card", DEFAULTS, LINES))
    return found


@pytest.fixture
def newer(older: RunResults) -> RunResults:
    for arm in older.arms:
        arm.training = OWN[arm.label]
    return RunResults.from_json(older.to_json())


def test_older_results_have_neither_field(build: SimpleNamespace) -> None:
    text = build.run().to_json().replace('"training": {},', "").replace('"online": null', '"later": 1')
    (sft, dasd) = RunResults.from_json(text).arms
    assert (sft.training, sft.online, dasd.online) == ({}, None, None)


def test_settings_are_the_arms_own(older: RunResults, newer: RunResults, build: SimpleNamespace) -> None:
    for arm in newer.arms:
        assert training_settings(newer, arm) == OWN[arm.label]
        assert training_line(newer, arm) == LINES[arm.label]
    older.arms[0].training = {}
    assert training_settings(older, older.arms[0]) == {}, "the run's defaults are not this arm's"
    alike = build.run(train=TrainSummary("LoRA r=16", "equal", DEFAULTS))
    assert training_settings(alike, alike.arms[0]) == DEFAULTS
    assert run_training_line(alike) == "LoRA r=16"


def test_the_run_names_every_arms_training(newer: RunResults) -> None:
    assert run_training_line(newer) == "sft: LoRA r=16, lr 0.0002; dasd: LoRA r=64, lr 5e-05"
    newer.train.arms["dasd"] = LINES["sft"]
    assert run_training_line(newer) == LINES["sft"]


def test_card_and_report_say_how_each_was_trained(tmp_path: Path) -> None:
    path = make_run(tmp_path / "alpha", Size(examples=4, tokens=8, items=10, seeds=(0,), steps=3))
    results = load_run(path)
    results.train = TrainSummary(
        "", "budget card", DEFAULTS, {arm.label: f"line of {arm.label}" for arm in results.arms}
    )
    results.save(path)
    for arm in results.arms:
        folder = path / "arms" / arm.label / "seed0" / "adapter"
        folder.mkdir()
        (folder / "adapter_config.json").write_text("{}")
    source = Source(path, load_run(path))
    for adapter in adapters(source):
        assert f"- Training: line of {adapter.arm.label}; loss" in card_text(source, adapter, HubNames())
    page = report_page([source])
    assert "low-ppl: line of low-ppl" in page
    assert "not recorded" not in page


def test_trackers_get_the_arms_own_settings(newer: RunResults) -> None:
    arm = newer.arms[1]
    found = configuration(newer, arm, arm.seeds[0])
    assert (found["training.lr"], found["training.lora_rank"], found["training.epochs"]) == (5e-5, 64, 2.0)
    arm.training = {}
    found = configuration(newer, arm, arm.seeds[0])
    assert "training.lr" not in found, "the run's default is not what this arm had"
    assert found["training"] == LINES["dasd"]


def test_two_rows_of_one_run_with_unlike_training(newer: RunResults) -> None:
    sft, dasd, base = (find_entry(newer, name) for name in ("sft", "dasd", "base"))
    assert rows_differ(sft, dasd) == [
        "training.lora_rank differs (16 and 64)",
        "training.lr differs (0.0002 and 5e-05)",
    ]
    assert rows_differ(sft, sft) == rows_differ(base, dasd) == []
    newer.arms[1].training = {}
    assert rows_differ(sft, dasd) == ["training differs (LoRA r=16, lr 0.0002; and LoRA r=64, lr 5e-05)"]


def test_rows_of_two_runs_are_asked_for_their_own_training(newer: RunResults, build: SimpleNamespace) -> None:
    """The runs' lists of arms differ, the two rows do not."""
    other = build.run("other", train=TrainSummary("", "", DEFAULTS), conditions={"training": "x", "budget": "equal"})
    other.arms[0].training = DEFAULTS
    newer.conditions = {"training": "y", "budget": "card"}
    sft = find_entry(newer, "sft")
    assert rows_differ(sft, find_entry(other, "sft")) == []
    assert rows_differ(sft, find_entry(other, "base")) == []
    assert any(reason.startswith("budget") for reason in conditions_differ(newer, other))


def test_a_setting_of_each_arms_own_is_not_called_none(newer: RunResults, build: SimpleNamespace) -> None:
    newer.train.config = {"epochs": 2.0}
    newer.conditions = {"training": "y"}
    other = build.run("other", train=TrainSummary("", "", DEFAULTS), conditions={"training": "x"})
    assert "training.lr differs (each arm's own and 0.0002)" in conditions_differ(newer, other)


def test_all_weights_trained_is_no_missing_adapter(tmp_path: Path) -> None:
    path = make_run(tmp_path / "full", Size(examples=4, tokens=8, items=10, seeds=(0,), steps=3))
    with pytest.raises(DasdError, match="has no adapter"):
        adapters(Source(path, load_run(path)))
    folder = path / "arms" / "sft" / "seed0" / "adapter"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    error = CliRunner().invoke(export_command, [str(path), "--row", "sft"]).exception
    assert "trained all weights (sft-seed0), so it has no adapter" in str(error)
    results = load_run(path)
    results.arms[1].training = {"lora_rank": 0}
    with pytest.raises(DasdError, match=r"trained all weights \(low-ppl-seed0\)"):
        adapters(Source(path, results), "low-ppl")


def online_of(page: str) -> dict[str, int]:
    from tests.reporting.test_report import index

    return {one["method"]: one["online"] for one in index(page)["tokens"]}


def test_weights_decided_while_training_are_said_to_be(tmp_path: Path) -> None:
    path = make_run(tmp_path / "live", Size(examples=4, tokens=8, items=10, seeds=(0,), steps=3))
    results = load_run(path)
    results.arms[0].online = True
    page = report_page([Source(path, results)], online_methods={"low-ppl"})
    online = online_of(page)
    assert (online["sft"], online["low-ppl"], online["dasd+tau=0.5"]) == (1, 1, 0)
    results.arms[1].online = False
    assert online_of(report_page([Source(path, results)], online_methods={"low-ppl"}))["low-ppl"] == 0
    assert "decided on the live model during training; static weights are shown" in page


def test_runs_that_do_not_say_ask_the_installed_methods(tmp_path: Path) -> None:
    path = make_run(tmp_path / "live", Size(examples=4, tokens=8, items=10, seeds=(0,), steps=3))
    results = load_run(path)
    assert {"profit", "dft", "idft"} <= online_methods([Source(path, results)])
    results.arms[0].method = "dft"
    results.save(path)
    result = CliRunner().invoke(report_command, [str(path)])
    assert result.exception is None, result.output
    assert online_of((path / "report.html").read_text(encoding="utf-8"))["sft"] == 1
    for arm in results.arms:
        arm.online = False
    assert online_methods([Source(path, results)]) == set()
