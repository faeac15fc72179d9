"""The report page as a file: what is in it, what it asks for (nothing), and what it refuses."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.made_run import PIECES, Size, make_run
from dasd_bench.cli.report_cmd import report_command
from dasd_bench.errors import DasdError, StoreError
from dasd_bench.reporting.plots import Source
from dasd_bench.reporting.report import report_page
from dasd_bench.reporting.report.tokens import NO_PROPOSAL
from dasd_bench.results.runs import load_run
from dasd_bench.results.schema import RunResults
from dasd_bench.store.store import load_ragged


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "alpha", Size(examples=6, tokens=12, items=10, seeds=(0,), steps=4))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that no test changes, and its page."""
    size = Size(examples=6, tokens=12, items=10, seeds=(0,), steps=4)
    run = make_run(tmp_path_factory.mktemp("runs") / "alpha", size)
    return run, page(run)


def page(*runs: Path) -> str:
    return report_page([Source(path, load_run(path)) for path in runs])


def index(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="index">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def block(text: str, name: str) -> bytes:
    found = re.search(rf'<script type="text/plain" id="block-{name}">(.*?)</script>', text)
    assert found is not None
    return gzip.decompress(base64.b64decode(found.group(1)))


KINDS = {"u1": "<u1", "u2": "<u2", "u4": "<u4", "i2": "<i2"}


def test_the_columns_hold_the_runs_numbers(whole: tuple[Path, str]) -> None:
    run, text = whole
    (found,) = (one for one in index(text)["tokens"] if one["method"] == "dasd+tau=0.7")
    fields, _ = load_ragged(run / "arms" / "dasd+tau=0.7" / "seed0" / "tokens.safetensors")
    columns = {
        name: np.frombuffer(block(text, column["block"]), KINDS[column["kind"]])
        for name, column in found["columns"].items()
    }
    pieces = json.loads(block(text, found["pieces"]))
    ids = np.concatenate(fields["token_ids"])
    assert [pieces[i] for i in columns["token"]] == [PIECES[i] for i in ids]
    assert columns["length"].tolist() == [len(one) for one in fields["token_ids"]]
    np.testing.assert_allclose(columns["logp"] / 1000, np.concatenate(fields["logp"]), atol=6e-4)
    np.testing.assert_allclose(columns["weight"] / 1000, np.concatenate(fields["weights"]), atol=6e-4)
    assert (columns["rank"] == np.concatenate(fields["rank"])).all()
    assert (columns["flags"] & 15 == np.concatenate(fields["origin"])).all()
    wanted = [
        PIECES[k] if len(own) else None
        for ids_of, own in zip(fields["token_ids"], fields["proposals"], strict=True)
        for k in (own if len(own) else ids_of)
    ]
    assert [None if k == NO_PROPOSAL else pieces[k] for k in columns["proposal"]] == wanted


def test_it_asks_no_server_for_anything(whole: tuple[Path, str]) -> None:
    _, text = whole
    assert "default-src 'none'" in text
    assert re.findall(r"<(?:img|iframe|object|embed|video|audio)\b", text) == []
    assert re.findall(r"<link[^>]*href=\"(?!data:)", text) == []
    assert re.findall(r"<script[^>]*\bsrc=", text) == []
    assert re.findall(r"url\((?!#)[^)]*\)", text) == []
    outside = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert {address for address in outside if not address.startswith("http://www.w3.org/")} == set()


def test_equal_contents_are_kept_once(whole: tuple[Path, str]) -> None:
    _, text = whole
    names = re.findall(r'id="block-(\w+)"', text)
    assert len(names) == len(set(names))
    sft, low = (one for one in index(text)["tokens"] if one["method"] in ("sft", "low-ppl"))
    assert sft["columns"]["logp"] == low["columns"]["logp"]
    assert sft["columns"]["weight"] != low["columns"]["weight"]


def test_the_same_run_gives_the_same_page(whole: tuple[Path, str]) -> None:
    run, text = whole
    assert page(run) == text


def test_texts_of_models_and_data_stay_text(run: Path) -> None:
    path = run / "results.json"
    evil = "</script><img src=x onerror=alert(1)>"
    path.write_text(path.read_text(encoding="utf-8").replace('"label": "low-ppl"', json.dumps({"label": evil})[1:-1]))
    (run / "manifest.json").write_text(json.dumps({"status": "finished", "command": evil}))
    text = page(run)
    assert "<img" not in text
    assert evil in [one["method"] for one in index(text)["answers"][0]["columns"]]


def test_the_command_writes_a_file(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "page.html"
    result = CliRunner().invoke(report_command, [str(run), "-o", str(out)])
    assert result.exception is None, result.output
    text = out.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    for words in ("Accuracy against forgetting", "Training targets", "How to read this table", "sha256", "alpha"):
        assert words in text
    assert CliRunner().invoke(report_command, ["alpha", "--runs-dir", str(tmp_path)]).exception is None
    assert (run / "report.html").is_file()


def test_a_run_without_token_texts_says_how_to_get_them(run: Path) -> None:
    for path in run.rglob("pieces.json"):
        path.unlink()
    text = page(run)
    assert "tokens are shown by number" in text
    found = index(text)["tokens"][0]
    assert all(piece.startswith("⟨") for piece in json.loads(block(text, found["pieces"])))


def test_missing_and_damaged_files(run: Path) -> None:
    folder = run / "arms" / "sft" / "seed0"
    (folder / "targets.jsonl").unlink()
    (folder / "eval" / "gsm8k" / "samples.jsonl").unlink()
    text = page(run)
    assert "sft seed 0: no targets in" in text
    assert "has no completions" in text
    other = run / "arms" / "dasd+tau=0.5" / "seed0" / "targets.jsonl"
    lines = other.read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join([lines[0], "{", *lines[2:]]) + "\n")
    with pytest.raises(StoreError, match=r"targets\.jsonl, line 2: not a JSON row"):
        page(run)
    other.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(StoreError, match="differ in length"):
        page(run)


def test_partial_runs_are_marked_and_cancelled_ones_refused(run: Path, build: SimpleNamespace, tmp_path: Path) -> None:
    results = RunResults.load(run)
    results.arms[-1].seeds = []
    results.save(run)
    (run / "manifest.json").unlink()
    text = page(run)
    assert '<span class="badge bad">partial</span>' in text
    assert "Run alpha is partial" in text
    assert "it was interrupted" in text
    with pytest.raises(DasdError, match="cancelled"):
        page(build.write(tmp_path / "more", build.run("stopped", status="cancelled")))


def test_a_run_without_targets_or_answers_still_has_its_tables(build: SimpleNamespace, tmp_path: Path) -> None:
    text = page(build.write(tmp_path, build.run("plain")))
    assert 'id="token-viewer"' not in text
    assert 'id="answer-viewer"' not in text
    assert "75.0" in text


def test_what_is_not_a_wrong_answer_is_not_called_one(whole: tuple[Path, str]) -> None:
    """No answer, a truncated one and a failure of the machinery are shown by their reason, and can be picked by it."""
    _, text = whole
    script = text[text.rindex("<script>") :]
    assert "· wrong" not in script
    assert "own answer wrong" not in text.lower()
    assert "own answer rejected: ${refusal(reason)}" in script
    assert '<select id="av-outcome">' in text
    assert "> Wrong</label>" not in text
