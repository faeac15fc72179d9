"""``dasd-bench grade``: verdicts for a file of one's own, and bad rows named by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dasd_bench.cli.main import run_cli

CHOICES = {"choices": ["iron", "oxygen"], "labels": "AB"}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "row", "added"),
    [
        ("number", {"text": "#### -$7", "gold": -7}, ("-7", True, "correct")),
        ("number", {"text": "The answer is −7.", "gold": "7"}, ("-7", False, "wrong")),
        ("number", {"text": "I do not know.", "gold": "7"}, (None, False, "no_answer")),
        ("math", {"text": "\\boxed{} so the answer is $x+1$.", "gold": "1+x"}, ("x+1", True, "correct")),
        ("choice", {"text": '"B"', "gold": 1, **CHOICES}, ("B", True, "correct")),
        ("choice", {"text": "The answer is $B$.", "gold": "A", **CHOICES}, ("B", False, "wrong")),
        ("choice", {"text": "oxygen", "gold": "B", "choices": ["iron", "oxygen"]}, ("oxygen", True, "correct")),
    ],
)
def test_columns_are_kept_and_verdicts_added(kind: str, row: dict[str, object], added: object, tmp_path: Path) -> None:
    file, output = write(tmp_path / "in.jsonl", {**row, "id": "é1"}), tmp_path / "out.jsonl"
    assert run_cli(["grade", str(file), "--as", kind, "--output", str(output)]) == 0
    (graded,) = map(json.loads, output.read_text(encoding="utf-8").splitlines())
    assert (graded.pop("extracted"), graded.pop("correct"), graded.pop("reason")) == added
    assert graded == {**row, "id": "é1"}


def test_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "in.jsonl", *({"text": f"#### {n}", "gold": "1"} for n in range(3)))
    assert run_cli(["grade", str(file), "--as", "number", "--limit", "2"]) == 0
    shown = capsys.readouterr().out
    assert "and 1 more" in shown
    assert "3 rows: 2 wrong, 1 correct (33.3 % correct)." in shown
    assert run_cli(["grade", str(file), "--as", "number", "--json"]) == 0
    assert [json.loads(line)["correct"] for line in capsys.readouterr().out.splitlines()] == [False, True, False]


@pytest.mark.parametrize(
    ("kind", "line", "said"),
    [
        ("number", "{", "not a JSON row"),
        ("number", '"x"', "a JSON object is expected"),
        ("number", '{"text": "5"}', "'gold' is missing"),
        ("number", '{"text": 5, "gold": "5"}', "'text' must be text"),
        ("number", '{"text": "5", "gold": null}', "'gold' must be"),
        ("number", '{"text": "5", "gold": "x"}', "not a number"),
        ("number", "9" * 5000, "not a JSON row"),
        ("choice", '{"text": "A", "gold": 0}', "'choices' is missing"),
        ("choice", '{"text": "A", "gold": 0, "choices": ["", "b"]}', "non-empty"),
        ("choice", '{"text": "A", "gold": 2, "choices": ["a", "b"]}', "a position from 0 to 1"),
        ("choice", '{"text": "A", "gold": "C", "choices": ["a", "b"]}', "one of the labels (A, B)"),
        ("choice", '{"text": "A", "gold": 0, "choices": ["a", "b", "c"], "labels": "AB"}', "3 choices need"),
    ],
)
def test_a_bad_row_is_named(
    kind: str, line: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(f"\n{line}\n", encoding="utf-8")
    assert run_cli(["grade", str(file), "--as", kind]) == 1
    error = capsys.readouterr().err
    assert f"{file}, line 2: " in error
    assert said in error


def test_the_destination_is_checked_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "in.jsonl", {"text": "5", "gold": "5"})
    for bad in (file, tmp_path):
        assert run_cli(["grade", str(file), "--as", "number", "--output", str(bad)]) == 2
        assert str(bad) in capsys.readouterr().err
    assert json.loads(file.read_text(encoding="utf-8")) == {"text": "5", "gold": "5"}
