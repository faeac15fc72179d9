"""Rows, results and models that are not what they should be, through the commands that read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.made_run import Size, make_run
from dasd_bench.cli.main import run_cli

MMLU = {"question": "Which?", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 2}
HELLASWAG = {"activity_label": "Baking", "ctx_a": "A man", "ctx_b": "he", "endings": ["a", "b", "c", "d"], "label": "0"}


@pytest.mark.parametrize(
    ("name", "row", "column", "value"),
    [
        ("mmlu/test", MMLU, "choices", "abcd"),
        ("mmlu/test", MMLU, "choices", {"a": 1, "b": 2, "c": 3, "d": 4}),
        ("hellaswag/validation", HELLASWAG, "endings", "abcd"),
        ("hellaswag/validation", HELLASWAG, "endings", ["a", None, "c", "d"]),
    ],
)
def test_choices_that_are_no_list_of_texts(
    name: str, row: dict[str, Any], column: str, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"{name}.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(one) + "\n" for one in (row, {**row, column: value})))
    assert run_cli(["data", "check", str(tmp_path), "-t", path.parent.name]) == 1
    assert f"{path.name}, row 2" in capsys.readouterr().out


@pytest.mark.parametrize("value", [2, -1, 10**30])
def test_an_impossible_count_in_results(value: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", Size(examples=6, tokens=12, items=10, seeds=(0,), steps=4))
    results = json.loads((run / "results.json").read_text())
    next(iter(results["base"].values()))["correct"][3] = value
    (run / "results.json").write_text(json.dumps(results))
    assert run_cli(["table", str(run)]) == 1
    said = capsys.readouterr().err
    assert "results.json" in said
    assert "correct" in said
    assert "unexpected" not in said


@pytest.mark.parametrize("text", ["null", "[]", "3", "{", '{"eos_token_id": "</s>"}'])
def test_a_plan_names_a_damaged_generation_config(
    text: str, tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in tiny_folder("llama").iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "generation_config.json").unlink(missing_ok=True)
    (tmp_path / "generation_config.json").write_text(text)
    assert run_cli(["run", "--dry-run", "--model", str(tmp_path), "--tasks", "mini_gsm", "--method", "sft"]) == 1
    assert "generation_config.json" in capsys.readouterr().err
