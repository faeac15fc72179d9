"""Targets as files: what is written is read back, by row and token; what is missing or damaged is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.made_run import Size, made_targets
from dasd_bench.errors import StoreError
from dasd_bench.results.directory import ModelDirectory
from dasd_bench.results.targets_file import ARRAYS, read_targets, write_pieces, write_targets
from dasd_bench.types import WeightedTarget


class Words:
    """A tokenizer whose tokens are numbers, every third with SentencePiece's mark of a space."""

    def convert_ids_to_tokens(self, token: int) -> str:
        return f"\u2581{token}" if token % 3 == 0 else str(token)

    def decode(self, ids: list[int], **_: object) -> str:
        return str(ids[0])


@pytest.fixture
def targets() -> list[WeightedTarget]:
    """Some gated, with proposals, some gold."""
    made = made_targets(Size(examples=8, tokens=10), np.random.default_rng(3), 0.5)
    assert len({one.target.proposals is None for one in made}) == 2
    return [WeightedTarget.of(one, np.ones(len(one.target.token_ids), np.float32)) for one in made]


@pytest.fixture
def folder(tmp_path: Path, targets: list[WeightedTarget]) -> ModelDirectory:
    directory = ModelDirectory(tmp_path / "seed0")
    write_targets(directory, targets)
    write_pieces(directory, targets, Words())
    return directory


def test_what_is_written_is_read(folder: ModelDirectory, targets: list[WeightedTarget]) -> None:
    found = read_targets(folder)
    assert [row.id for row in found.rows] == [one.target.example_id for one in targets]
    for index, (row, one) in enumerate(zip(found.rows, targets, strict=True)):
        assert (row.prompt, row.target, row.accepted) == (one.example.prompt, one.target.text, one.target.accepted)
        assert (row.notes, row.tokens) == (one.target.notes, len(one.target.token_ids))
        for name in ("token_ids", "origin", "marks"):
            np.testing.assert_array_equal(found.arrays[name][index], getattr(one.target, name))
        proposals = one.target.proposals
        np.testing.assert_array_equal(found.arrays["proposals"][index], [] if proposals is None else proposals)
        np.testing.assert_array_equal(found.arrays["logp"][index], one.scores.logp)
        np.testing.assert_array_equal(found.arrays["weights"][index], one.weights)
    ids = {int(i) for name in ("token_ids", "proposals") for part in found.arrays[name] for i in part}
    assert found.pieces == {i: f" {i}" if i % 3 == 0 else str(i) for i in ids}


def test_runs_from_before_pieces_are_read(folder: ModelDirectory) -> None:
    folder.pieces.unlink()
    assert read_targets(folder).pieces == {}


def change(path: Path, line: int, **values: object) -> None:
    rows = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    rows[line] = {key: value for key, value in {**rows[line], **values}.items() if value is not ...}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("name", ["target", "tokens", "notes"])
def test_what_older_runs_lack_has_defaults(name: str, folder: ModelDirectory) -> None:
    change(folder.targets, 1, **{name: ...}, later=3)
    assert len(read_targets(folder).rows) == 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": 3}, r"targets.jsonl, line 2: not a target \(prompt: expected str, got int\)"),
        ({"accepted": "yes"}, "line 2: not a target"),
        ({"reason": ...}, r"line 2: not a target \(object missing required field reason\)"),
        ({"notes": {"a": "b"}}, "line 2: not a target"),
    ],
)
def test_a_wrong_row_is_named(values: dict[str, object], message: str, folder: ModelDirectory) -> None:
    change(folder.targets, 1, **values)
    with pytest.raises(StoreError, match=message):
        read_targets(folder)


def test_files_that_do_not_belong_together(folder: ModelDirectory) -> None:
    lines = folder.targets.read_text(encoding="utf-8").splitlines(keepends=True)
    folder.targets.write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(StoreError, match="differ in length"):
        read_targets(folder)


@pytest.mark.parametrize("name", ["targets.jsonl", "tokens.safetensors"])
def test_a_missing_file_is_named(name: str, folder: ModelDirectory) -> None:
    (folder.path / name).unlink()
    with pytest.raises(StoreError, match=name):
        read_targets(folder)


@pytest.mark.parametrize("content", ["[]", "{", '{"x": "y"}'])
def test_damaged_pieces_are_named(content: str, folder: ModelDirectory) -> None:
    folder.pieces.write_text(content, encoding="utf-8")
    with pytest.raises(StoreError, match=r"pieces\.json"):
        read_targets(folder)


def test_every_array_is_there(folder: ModelDirectory) -> None:
    assert set(read_targets(folder).arrays) == set(ARRAYS)
