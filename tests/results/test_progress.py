"""The file by which others see how far a run is."""

from __future__ import annotations

from pathlib import Path

import pytest

from dasd_bench.console import Console
from dasd_bench.results import progress as module
from dasd_bench.results.progress import Progress, ProgressFile, read_progress
from dasd_bench.run.recorder import Recorder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".progress.json"


def test_it_follows_stages_and_meters_and_goes_at_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "METER_SECONDS", 0.0)
    console = Console(quiet=True)
    file = ProgressFile(path)
    assert read_progress(path) == Progress("starting", started=pytest.approx(0, abs=1e12), updated=file_updated(path))
    recorder = Recorder(console, planned=[0.0, 30.0, 20.0], progress=file)
    console.on_progress = file.meter
    with recorder.stage("targets", "dasd", 0):
        pass
    with recorder.stage("evaluate gsm8k", "dasd", 1), console.progress("gsm8k", 50) as meter:
        before = read_progress(path)
        assert before is not None
        assert (before.stage, before.who, before.number, before.of) == ("evaluate gsm8k", "dasd seed 1", 2, 3)
        assert before.seconds_left == pytest.approx(50.0)
        assert (before.done, before.total) == (0, 0)
        meter.advance(12, tokens=300)
        during = read_progress(path)
        assert during is not None
        assert (during.done, during.total, during.unit) == (12, 50, "items")
        assert during.tokens_per_second is not None
        assert during.started == before.started
        assert during.updated >= before.updated
    file.end()
    assert list(path.parent.iterdir()) == []


def file_updated(path: Path) -> float:
    found = read_progress(path)
    assert found is not None
    return found.updated


def test_within_a_stage_it_is_written_once_a_second_at_most(path: Path) -> None:
    file = ProgressFile(path)
    file.stage("train", "sft seed 0", 1, 2, None)
    before = path.read_text(encoding="utf-8")
    console = Console(quiet=True)
    console.on_progress = file.meter
    with console.progress("steps", 10_000) as meter:
        for _ in range(50):
            meter.advance()
    assert path.read_text(encoding="utf-8") == before


def test_a_folder_that_was_removed_is_not_made_again(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path / "gone" / ".progress.json")
    file.stage("train", "", 1, 2, None)
    file.end()
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"stage": 3}', '{"done": 1}', "\x00"])
def test_a_damaged_file_says_nothing(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    assert read_progress(path) is None
