"""A fixed part of ``benchmarks/faults.py``: odd specifications, command lines, rows and run folders, by number."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults import DISCOVERING, KINDS, run_case, shipped_once, sound_run

CASES = 25
"""Cases of each kind; the script runs as many as one likes."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_run(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=[kind.__name__ for kind in KINDS])
def test_no_input_is_unexpected_accepted_in_silence_or_hides_another(
    kind: int, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DASD_DATA_DIR", "DASD_RUNS_DIR"):
        monkeypatch.delenv(name, raising=False)
    for module in DISCOVERING:
        monkeypatch.setattr(f"{module}.discover", shipped_once)
    outcomes = [run_case(kind + len(KINDS) * number, run) for number in range(CASES)]
    assert [outcome for outcome in outcomes if outcome.fault] == []
