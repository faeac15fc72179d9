"""kill -9 at any moment of any stage, the same command again: the same artifacts, and finished work not repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.run.helpers import artifacts, run_args

ROOT = Path(__file__).resolve().parents[2]


def start(
    point: str, count: int, folder: Path, model: Path, *more: str, methods: str = "sft,dasd"
) -> tuple[int, list[str]]:
    """Runs to the end or to the kill; gives the exit code and the engine calls finished in this process."""
    folder.mkdir(exist_ok=True)
    log = folder / "calls.log"
    log.write_text("")
    environment = {**os.environ, "DASD_TEST_CALLS": str(log), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.run.killed_run",
            point,
            str(count),
            *run_args(model, folder, *more, methods=methods),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(done.stdout + done.stderr)
    return done.returncode, log.read_text().splitlines()


@pytest.fixture(scope="module")
def undisturbed(tiny_folder: Callable[[str], Path], tmp_path_factory) -> tuple[Path, dict[str, str], list[str]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    code, calls = start("never", 0, folder, tiny_folder("llama"))
    assert code == 0
    return folder, artifacts(folder / "run"), calls


@pytest.mark.parametrize(
    ("point", "count"),
    [
        ("inside", 2),  # in the first generation
        ("engine", 5),  # between two shards
        ("inside", 25),  # in dual decoding, scoring or evaluation
        ("write", 9),  # with a temporary file written and not renamed
        ("step", 3),  # between two checkpoints of the first adapter
        ("engine", 16),  # in the evaluation of an adapter
    ],
)
def test_killed_run_goes_on(point: str, count: int, undisturbed, tiny_folder, tmp_path: Path) -> None:
    _, expected, all_calls = undisturbed
    model = tiny_folder("llama")
    code, first = start(point, count, tmp_path, model)
    assert code == -signal.SIGKILL, "the run was not killed: the point lies behind its end"
    assert not (tmp_path / "run" / "manifest.json").exists()
    code, second = start("never", 0, tmp_path, model)
    assert code == 0
    assert artifacts(tmp_path / "run") == expected
    repeated = len(first) + len(second) - len(all_calls)
    # One call at most was finished but not yet stored when the kill came.
    assert 0 <= repeated <= 1
