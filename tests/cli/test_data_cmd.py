"""``dasd-bench data`` through the command line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dasd_bench.cli.main import run_cli

ROW = '{"question": "What is %d?", "answer": "#### %d"}\n'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        path = tmp_path / "gsm8k" / f"{split}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(ROW % (i, i) for i in range(3 if split == "train" else 2)), encoding="utf-8")
    return tmp_path


def test_check_counts_rows_and_reports_overlap(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "gms8k").mkdir()
    assert run_cli(["data", "check", str(data)]) == 0
    out = capsys.readouterr().out
    assert "gsm8k: train 3 rows" in out
    assert "of 2 test rows, 2 are exact duplicates of training rows" in out
    assert "gms8k: no task uses this folder. Did you mean 'gsm8k'?" in out
    assert "3 tasks checked, no problems found" in out


def test_check_names_file_and_line_and_fails(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (data / "gsm8k" / "test.jsonl").open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    assert run_cli(["data", "check", str(data)]) == 1
    captured = capsys.readouterr()
    assert "test.jsonl, line 3: not a JSON row" in captured.out
    assert "1 of the checks" in captured.err


def test_check_compares_checksums(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = hashlib.sha256((data / "gsm8k" / "train.jsonl").read_bytes()).hexdigest()
    (data / "SHA256SUMS").write_text(f"{good}  gsm8k/train.jsonl\n{'0' * 64}  gsm8k/test.jsonl\n", encoding="utf-8")
    assert run_cli(["data", "check", str(data)]) == 1
    out = capsys.readouterr().out
    assert "test.jsonl differs from its checksum" in out
    assert "train.jsonl differs" not in out


def test_check_of_named_task_that_is_not_there(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["data", "check", str(data), "--tasks", "arc_easy"]) == 1
    assert "put the data of task 'arc_easy' there" in capsys.readouterr().out


def test_check_of_no_folder_and_of_an_empty_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["data", "check", str(tmp_path / "none")]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert run_cli(["data", "check", str(tmp_path)]) == 1
    assert "has no folder of a known task" in capsys.readouterr().err


def test_prepared_rows_pass_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["data", "prepare", str(tmp_path), "--tasks", "mini_arc", "--offline"]) == 0
    assert run_cli(["data", "check", str(tmp_path), "--tasks", "mini_arc"]) == 0
    assert run_cli(["data", "prepare", str(tmp_path), "--tasks", "gsm8k", "--offline"]) == 1
    assert "--offline disables the hub" in capsys.readouterr().err
