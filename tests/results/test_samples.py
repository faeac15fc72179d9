"""``samples.jsonl``: one type for evaluation, tables and grading; older files are read, damage is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.errors import StoreError
from dasd_bench.results.samples import Sample, read_samples, write_samples
from dasd_bench.types import Reason

FULL: dict[str, Any] = {
    "id": "gsm8k/test/0", "index": 0, "prompt": "How many?", "completion": "18", "extracted": "18", "correct": True,
    "score": 1.0, "reason": "correct", "tokens": 3, "metrics": {"exact_match,strict-match": 1.0}, "finish": "stop",
    "level": "2", "subject": "algebra", "completions": ["18", "17"], "answer": "18", "confidence": 0.5, "seconds": 0.25,
}  # fmt: skip


def put(folder: Path, *rows: object) -> Path:
    path = folder / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    samples = read_samples(put(tmp_path, FULL, {**FULL, "extracted": None, "score": 0.0, "reason": "no_answer"}))
    write_samples(tmp_path / "again.jsonl", samples)
    assert read_samples(tmp_path / "again.jsonl") == samples
    first = json.loads((tmp_path / "again.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first == FULL
    assert [sample.correct for sample in samples] == [True, False]


def test_older_rows_lack_keys_and_later_rows_have_more(tmp_path: Path) -> None:
    (old, later) = read_samples(
        put(tmp_path, {"id": "a", "score": 0, "reason": "wrong"}, {**FULL, "colour": [1], "correct": "odd"})
    )
    assert old == Sample("a", 0.0, Reason.WRONG)
    assert (old.prompt, old.extracted, old.tokens, old.metrics, old.seconds) == ("", None, 0, {}, 0.0)
    assert later.metrics == FULL["metrics"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 3}, "id: expected str, got int"),
        ({"score": None}, "score: expected float, got null"),
        ({"score": "1"}, "score: expected float, got str"),
        ({"reason": "odd"}, "reason: invalid enum value 'odd'"),
        ({"finish": "later"}, "finish: invalid enum value 'later'"),
        ({"prompt": ["a"]}, "prompt: expected str, got array"),
        ({"metrics": {"a": "b"}}, r"metrics\[...\]: expected float, got str"),
        ({"choice_logp": [0, "x"]}, r"choice_logp\[1\]: expected float, got str"),
        ({"tokens": 1.5}, "tokens: expected int, got float"),
    ],
)
def test_damage_names_file_line_and_field(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = put(tmp_path, FULL, {**FULL, **change})
    with pytest.raises(StoreError, match=f"samples.jsonl, line 2: not a sample \\({message}"):
        read_samples(path)


@pytest.mark.parametrize("name", ["id", "score", "reason"])
def test_what_every_release_wrote_is_required(name: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"line 1: not a sample \\(object missing required field {name}"):
        read_samples(put(tmp_path, {key: value for key, value in FULL.items() if key != name}))


def test_a_cut_off_last_line_is_left_out(tmp_path: Path) -> None:
    path = put(tmp_path, FULL, FULL)
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    assert len(read_samples(path)) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"samples\.jsonl is missing: the run has no completions for this task"):
        read_samples(tmp_path / "samples.jsonl")
