"""``dasd-bench view`` as a person starts and stops it."""

from __future__ import annotations

import http.cookiejar
import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from benchmarks.made_run import Size, make_run
from dasd_bench.cli.main import run_cli
from dasd_bench.console import Console
from dasd_bench.results.progress import Progress, read_progress
from tests.run.helpers import command, run_args


def test_it_prints_an_address_that_works_and_stops_by_ctrl_c(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "alpha", Size(examples=2, tokens=5, items=4, seeds=(0,), steps=1))
    started = subprocess.Popen(
        [sys.executable, "-m", "dasd_bench", "view"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        assert line.startswith("1 run at http://127.0.0.1:")
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        with urllib.request.build_opener(jar).open(line.split()[-1], timeout=60) as answer:
            assert "alpha" in answer.read().decode()
    finally:
        started.send_signal(signal.SIGINT)
        _, errors = started.communicate(timeout=60)
    assert started.returncode == 0, errors
    assert errors == ""


def test_an_unknown_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["view", "nothing", "--runs-dir", str(tmp_path)]) == 2
    assert "Unknown run 'nothing'" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_a_real_run_says_how_far_it_is(
    tiny_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read by another's eyes at every stage that ends; gone when the run has ended."""
    seen: list[Progress] = []
    event = Console.event

    def watched(console: Console, kind: str, **fields: Any) -> None:
        if kind == "stage" and (found := read_progress(tmp_path / "run" / ".progress.json")) is not None:
            seen.append(found)
        event(console, kind, **fields)

    monkeypatch.setattr(Console, "event", watched)
    few = ["--limit", "2", "--train-limit", "2"]
    done = command(capsys, *run_args(tiny_folder("llama"), tmp_path, *few, methods="sft"))
    assert done.code == 0, done.err
    stages = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))["stages"]
    assert [one.stage for one in seen] == [stage["name"] for stage in stages]
    assert [one.number for one in seen] == list(range(1, len(stages) + 1))
    assert {one.of for one in seen} == {len(stages)}
    assert not (tmp_path / "run" / ".progress.json").exists()
