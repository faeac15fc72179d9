"""``exec`` loses nothing: rows are written as they come, a run goes on where it stopped, inputs stay as they are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.cli.main import run_cli
from dasd_bench.errors import UsageError
from dasd_bench.store.destination import check_destination, write_destination

PROBLEM = {
    "task_id": "A",
    "text": "",
    "code": "def g(): return 2",
    "test_list": ["assert g() == 2"],
    "test_setup_code": "",
}
QUICK = [{"task_id": "A", "completion": f"def g(): return {n}", "n": n} for n in (2, 3, 2)]
SLOW = {"task_id": "A", "completion": "import time\ndef g():\n    time.sleep(100)"}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def arguments(folder: Path, output: Path | str, samples: list[dict[str, Any]] | None = None, *more: str) -> list[str]:
    return [
        "exec", str(write(folder / "samples.jsonl", samples or QUICK)), "--problems",
        str(write(folder / "problems.jsonl", [PROBLEM])), "--output", str(output), "--workers", "1",
        "--confirm-run-unsafe-code", "--allow-unsafe-code", *more,
    ]  # fmt: skip


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path, number: int, capsys: Any) -> None:
    output = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "dasd_bench", *arguments(tmp_path, output, [*QUICK, SLOW])]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not output.exists() or output.read_bytes().count(b"\n") < len(QUICK):
            assert process.poll() is None, "ended before the slow program"
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(30) == (130 if number == signal.SIGTERM else -number)
    finally:
        process.kill()
        process.wait()
    before = rows_of(output)
    assert [row["passed"] for row in before] == [True, False, True]
    # A row that was cut in its middle is no row.
    with output.open("a") as file:
        file.write('{"task_id": "A", "compl')
    assert (
        run_cli(arguments(tmp_path, output, [{**SLOW, "completion": "def g(): return 1 + 1"}, *QUICK], "--json")) == 0
    )
    after = rows_of(output)
    assert after[1:] == before
    assert after[0]["passed"]
    assert "3 of 4 results" in json.loads(capsys.readouterr().out)["resumed"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "problems.jsonl", "samples.jsonl"]


def test_a_finished_run_is_not_run_again_unless_something_has_changed(tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "out.jsonl"
    assert run_cli(arguments(tmp_path, output)) == 0
    first = output.read_bytes()
    for more, same in (((), True), (("--timeout", "4"), False), (("--fresh",), False)):
        capsys.readouterr()
        output.write_bytes(first)
        assert run_cli(arguments(tmp_path, output, None, "--json", *more)) == 0
        assert ("resumed" in json.loads(capsys.readouterr().out)) == same
        assert (output.read_bytes() == first) == same


def test_rows_of_infrastructure_errors_are_run_again(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert run_cli(arguments(tmp_path, output)) == 0
    rows = rows_of(output)
    write(output, [{**rows[0], "outcome": "infrastructure_error", "passed": False}, *rows[1:]])
    assert run_cli(arguments(tmp_path, output)) == 0
    assert rows_of(output)[0]["passed"]


def test_a_pipe_gets_the_rows_in_order(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert run_cli(arguments(tmp_path, pipe)) == 0
    reader.join()
    assert [json.loads(line)["n"] for line in read[0].splitlines()] == [2, 3, 2]
    assert pipe.is_fifo()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "out.jsonl")  # dangling at first
    for more in ((), ("--fresh",)):
        assert run_cli(arguments(tmp_path, link, None, *more)) == 0
        assert link.is_symlink()
        assert len(rows_of(tmp_path / "there" / "out.jsonl")) == 3
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["out.jsonl"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_said_in_one_sentence(tmp_path: Path, capsys: Any) -> None:
    assert run_cli(arguments(tmp_path, "/dev/full")) == 1
    error = capsys.readouterr().err
    assert "No space left" in error
    assert "unexpected" not in error
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize("name", ["samples.jsonl", "problems.jsonl", "./samples.jsonl", "alias", "hard"])
def test_no_input_is_overwritten(tmp_path: Path, name: str, capsys: Any) -> None:
    command = arguments(tmp_path, tmp_path / name)
    (tmp_path / "alias").symlink_to("problems.jsonl")
    os.link(tmp_path / "samples.jsonl", tmp_path / "hard")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert run_cli(command) == 2
    assert "would overwrite the input" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_missing_folder_is_made_before_any_program_runs(tmp_path: Path) -> None:
    output = tmp_path / "new" / "deep" / "out.jsonl"
    assert run_cli(arguments(tmp_path, output)) == 0
    assert [path.name for path in output.parent.iterdir()] == ["out.jsonl"]


@pytest.mark.parametrize("name", [".", "samples.jsonl/out", "x" * 300])
def test_a_destination_that_cannot_be_is_refused_first(tmp_path: Path, name: str, capsys: Any) -> None:
    assert run_cli(arguments(tmp_path, f"{tmp_path}/{name}", [SLOW])) == 2
    error = capsys.readouterr().err
    assert "--output" in error
    assert "unexpected" not in error


@pytest.mark.parametrize("option", ["--timeout", "--memory-gib"])
@pytest.mark.parametrize("value", ["inf", "nan", "0", "-1", "1e300", "x"])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, option: str, value: str, capsys: Any) -> None:
    assert run_cli(arguments(tmp_path, tmp_path / "out.jsonl", None, f"{option}={value}")) == 2
    assert option in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


def test_text_is_written_through(tmp_path: Path) -> None:
    kept, other = tmp_path / "kept", tmp_path / "other"
    kept.write_text("old")
    os.link(kept, other)
    write_destination(kept, "new")
    assert other.read_text() == "new"
    write_destination(Path("/dev/null"), "gone")
    assert Path("/dev/null").is_char_device()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "other"]
    with pytest.raises(UsageError, match="would overwrite the input"):
        check_destination(other, [kept])
