"""The example in docs/notebook.py runs as it is."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dasd_bench.api import load_results
from dasd_bench.errors import DasdError, UsageError
from dasd_bench.reporting.notebook import Results

SCRIPT = Path(__file__).parents[1] / "docs" / "notebook.py"


def test_the_notebook_runs(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tmp_path), str(tiny_folder("llama"))])
    found = runpy.run_path(str(SCRIPT))
    assert found["results"].status == "finished"
    assert [arm.label for arm in found["results"].arms] == ["sft", "dasd+rho=0.5"]
    assert "dasd+rho=0.5" in capsys.readouterr().out
    results = found["results"]
    check_frames(results, tmp_path / "first")
    shown = results._repr_html_()
    assert shown.count("<table>") == shown.count("</table>") > 1
    assert "dasd+rho=0.5" in shown
    assert (tmp_path / "scores.png").stat().st_size > 0
    # A run read back is the same, and the directory is no part of its file.
    again = load_results(tmp_path / "first")
    assert again.to_json() == (tmp_path / "first" / "results.json").read_text()
    assert again.scores.equals(results.scores)
    with pytest.raises(UsageError, match=r"Unknown kind of figure 'score'\. Did you mean 'scores'"):
        again.figure("score")
    with pytest.raises(DasdError, match="no retention task"):
        again.figure("forgetting")


def check_frames(results: Results, run: Path) -> None:
    """The frames hold what the files of the run directory hold, read without this project's readers."""
    scores = results.scores.set_index(["method", "task"])
    assert list(scores.index) == [(name, "mini_arc") for name in ("base", "sft", "dasd+rho=0.5")]
    assert [str(seed) for seed in scores.seed] == ["<NA>", "0", "0"]
    assert scores.loc[("base", "mini_arc"), "score"] == results.base["mini_arc"].mean
    items = results.items
    lines = (run / "arms" / "sft" / "seed0" / "eval" / "mini_arc" / "samples.jsonl").read_text().splitlines()
    assert list(items[items.method == "sft"].item) == [json.loads(line)["id"] for line in lines]
    means = items.groupby("method").score.mean()
    assert means["sft"] == pytest.approx(scores.loc[("sft", "mini_arc"), "score"])
    tokens = results.tokens
    mine = tokens[tokens.method == "sft"]
    lines = (run / "arms" / "sft" / "seed0" / "targets.jsonl").read_text().splitlines()
    assert list(mine.groupby("target", sort=False).size()) == [json.loads(line)["tokens"] for line in lines]
    assert (mine.logp <= mine.top1_logp + 1e-6).all()
    assert set(mine.mark) == {"plain", "end"}
    text = "".join(mine[(mine.target == mine.target.iloc[0]) & (mine.mark == "plain")].text)
    assert text.strip() == json.loads(lines[0])["target"].strip()
