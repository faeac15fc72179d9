"""Kill at any point and call again: the same bytes as an undisturbed run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from dasd_bench.training import trainer
from dasd_bench.training.trainer import TIMING_FIELDS
from tests.training.helpers import RULES, make_examples, metrics, quiet, run, soft_model
from tests.training.killed_run import SETTINGS

ROOT = Path(__file__).parents[2]


def train_whole(out: Path, **changes: object) -> None:
    run(soft_model("qwen3"), make_examples(11, seed=2), out, RULES["dft"], **{**SETTINGS, **changes})


def adapter_bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "adapter").iterdir())}


def untimed(out: Path) -> list[dict[str, object]]:
    return [{k: v for k, v in line.items() if k not in TIMING_FIELDS} for line in metrics(out)]


def test_killed_three_times_gives_the_same_bytes(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for point, steps_left in (("step", 4), ("checkpoint", 8), ("adapter", 12)):
        done = subprocess.run([sys.executable, "-m", "tests.training.killed_run", str(killed), point], cwd=ROOT)
        assert done.returncode == -9
        assert len(metrics(killed)) == steps_left
        assert not (killed / "adapter").exists()
    console = quiet()
    run(soft_model("qwen3"), make_examples(11, seed=2), killed, RULES["dft"], console=console, **SETTINGS)
    train_whole(whole)
    assert adapter_bytes(killed) == adapter_bytes(whole)
    assert untimed(killed) == untimed(whole)
    assert sorted(path.name for path in killed.iterdir()) == ["adapter", "metrics.jsonl"]


class StopError(Exception):
    pass


@contextmanager
def stopped(at: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Training in the block ends when ``at`` steps are done."""
    original = trainer._Run.step

    def step(self: trainer._Run, number: int, rows: list) -> object:  # type: ignore[type-arg]
        if number == at:
            raise StopError
        return original(self, number, rows)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Run, "step", step)
        with pytest.raises(StopError):
            yield


def interrupt(out: Path, at: int, monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Trains until ``at`` steps are done."""
    with stopped(at, monkeypatch):
        train_whole(out, **changes)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path / "a", 7, monkeypatch, keep_checkpoints=2)
    found = sorted((tmp_path / "a" / "checkpoints").iterdir())
    assert [path.name for path in found] == ["step-00000004", "step-00000006"]
    damaged = bytearray((found[1] / "state.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (found[1] / "state.pt").write_bytes(bytes(damaged))
    train_whole(tmp_path / "a", keep_checkpoints=2)
    train_whole(tmp_path / "b")
    assert adapter_bytes(tmp_path / "a") == adapter_bytes(tmp_path / "b")
    assert untimed(tmp_path / "a") == untimed(tmp_path / "b")


def test_the_newest_checkpoint_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(tmp_path, 7, monkeypatch)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000006"]
    done: list[int] = []
    original = trainer._Run.step

    def step(self: trainer._Run, number: int, rows: list) -> object:  # type: ignore[type-arg]
        done.append(number)
        return original(self, number, rows)

    monkeypatch.setattr(trainer._Run, "step", step)
    train_whole(tmp_path)
    assert done == list(range(6, 12))


def test_checkpoints_of_other_settings_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(tmp_path / "a", 7, monkeypatch, lr=1e-4)
    console = quiet()
    run(soft_model("qwen3"), make_examples(11, seed=2), tmp_path / "a", RULES["dft"], console=console, **SETTINGS)
    train_whole(tmp_path / "b")
    assert adapter_bytes(tmp_path / "a") == adapter_bytes(tmp_path / "b")
    assert "other settings" in console.warnings[0]


def test_a_torn_line_of_metrics_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(tmp_path / "a", 5, monkeypatch)
    with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    train_whole(tmp_path / "a")
    assert [line["step"] for line in metrics(tmp_path / "a")] == list(range(1, 13))


def test_the_callers_random_state_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    train_whole(tmp_path)
    assert torch.equal(before, torch.get_rng_state())
