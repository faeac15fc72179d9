"""``dasd-bench task new``: what it writes works as it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dasd_bench.cli.main import run_cli
from dasd_bench.results.runs import load_run


@pytest.mark.parametrize("kind", ["number", "choice"])
def test_the_template_passes_its_own_test_and_runs(
    kind: str, tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(["task", "new", "my_sums", "--kind", kind]) == 0
    own = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "my_tasks/my_sums"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert own.returncode == 0, own.stdout
    data = "my_tasks/my_sums/data"
    assert run_cli(["data", "check", data, "--plugins", "my_tasks", "-t", "my_sums"]) == 0
    args = ["run", "-m", str(tiny_folder("llama")), "--method", "base", "-t", "my_sums", "--limit", "3"]
    args += ["--plugins", "my_tasks", "--data-dir", data, "--store", "store", "--name", "first"]
    assert run_cli(args) == 0
    assert load_run(Path("runs/first")).base["my_sums"].n == 3


def test_names_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(["task", "new", "My-Task"]) == 2
    assert "not a valid task name" in capsys.readouterr().err
    assert run_cli(["task", "new", "gsm8k"]) == 2
    assert "There is a task 'gsm8k' already" in capsys.readouterr().err
    assert run_cli(["task", "new", "mine"]) == 0
    assert run_cli(["task", "new", "mine"]) == 2
    assert "already exists" in capsys.readouterr().err
