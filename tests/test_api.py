"""The example in docs/notebook.py runs as it is."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "notebook.py"


def test_the_notebook_runs(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tmp_path), str(tiny_folder("llama"))])
    found = runpy.run_path(str(SCRIPT))
    assert found["results"].status == "finished"
    assert [arm.label for arm in found["results"].arms] == ["sft", "dasd+tau=0.7"]
    assert "target perplexity" in capsys.readouterr().out
