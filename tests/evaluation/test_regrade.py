"""Old completions under the graders as they are now: the same verdicts, or exactly those that were tampered with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dasd_bench.results.schema import RunResults
from dasd_bench.run.regrade import find_answers
from tests.run.helpers import artifacts, command, run_args


@pytest.fixture(scope="module")
def run(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dasd_bench.cli.main import run_cli

    folder = tmp_path_factory.mktemp("regrade")
    assert run_cli(run_args(tiny_folder("llama"), folder, "--quiet", methods="sft")) == 0
    return folder / "run"


def test_same_graders_give_the_same_bytes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = artifacts(run)
    result = command(capsys, "score", str(run))
    assert result.code == 0, result.err
    assert "0 of 24 verdicts changed." in result.out
    assert artifacts(run) == before
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["regraded"][-1]["items"] == 24
    assert manifest["regraded"][-1]["changed"] == []


def test_changed_verdicts_are_named_and_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "base" / "eval" / "mini_gsm" / "samples.jsonl"
    original = path.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in original.splitlines()]
    # As if the run had been graded by a faulty grader that took the first answer for right.
    rows[0].update(score=1.0, correct=True, reason="correct", extracted=rows[0]["answer"])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tried = command(capsys, "score", str(run), "--dry-run")
    assert "1 of 24 verdicts would change." in tried.out
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[0])["reason"] == "correct"
    result = command(capsys, "score", str(run), "--task", "mini_gsm")
    assert "mini_gsm, base: 1 of 6 changed, score 16.7 -> 0.0" in result.out
    assert f"{rows[0]['id']} (base): correct -> " in result.out
    assert path.read_text(encoding="utf-8") == original
    assert RunResults.load(run).base["mini_gsm"].mean == 0.0
    assert [p.name for p in path.parent.iterdir()] == ["samples.jsonl"]


def test_json_gives_every_change(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = [json.loads(line) for line in command(capsys, "score", str(run), "--json").out.splitlines()]
    assert events[-1]["changed"] == 0
    assert events[-1]["items"] == 24


def test_what_cannot_be_graded_again_is_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean 'mini_gsm'" in command(capsys, "score", str(run), "--task", "mini_gsn").err
    assert command(capsys, "score", str(run), "--task", "mini_gsn").code == 2
    # Other rows under the same name: the verdicts would be about other questions.
    other = tmp_path / "data" / "mini_gsm"
    other.mkdir(parents=True)
    row = {"question": "What is 1 + 1?", "answer": "It is 2.\n#### 2"}
    (other / "test.jsonl").write_text((json.dumps(row) + "\n") * 6, encoding="utf-8")
    refused = command(capsys, "score", str(run), "--task", "mini_gsm", "--data-dir", str(tmp_path / "data"))
    assert refused.code == 1
    assert "are not those that run was scored on" in refused.err


def test_all_files_of_a_run_are_found(run: Path) -> None:
    assert [(one.task, one.who) for one in find_answers(run)] == [
        ("mini_arc", "base"),
        ("mini_gsm", "base"),
        ("mini_arc", "sft seed 0"),
        ("mini_gsm", "sft seed 0"),
    ]


def test_samples_reads_them(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = command(capsys, "samples", str(run), "--task", "mini_gsm", "--method", "sft", "--limit", "2", "--json")
    rows = [json.loads(line) for line in found.out.splitlines()]
    assert [(row["task"], row["method"], row["seed"]) for row in rows] == [("mini_gsm", "sft", 0)] * 2
    assert {"prompt", "completion", "extracted", "reason", "tokens", "seconds", "answer"} <= rows[0].keys()
    assert rows[0]["seconds"] > 0
    item = rows[0]["id"]
    text = command(capsys, "samples", str(run), "--item", item, "--method", "base").out
    assert f"{item} · base" in text
    assert "1 of 1 records shown" in text
    assert "expected '" in text


def test_samples_refuses_what_is_not_there(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean 'wrong'" in command(capsys, "samples", str(run), "--reason", "wrng").err
    assert "Did you mean 'sft'" in command(capsys, "samples", str(run), "--method", "sftt").err
    assert command(capsys, "samples", str(run), "--reason", "timeout").code == 2
