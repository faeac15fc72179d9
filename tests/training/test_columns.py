"""Extra numbers per token: from the example through packs and job files to the rule, each at its own token."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from dasd_bench.config.training import TrainingConfig
from dasd_bench.errors import TrainingError
from dasd_bench.methods.base import Method
from dasd_bench.methods.context import LiveTokens
from dasd_bench.training.batching import batches, examples_digest
from dasd_bench.training.job import TrainJob, read_job, write_job
from dasd_bench.types import TrainExample, TrainingSet
from tests.training.helpers import Sft, make_examples, metrics, run, soft_model


def with_columns(examples: list[TrainExample]) -> list[TrainExample]:
    """Each token's column tells which example and token it is."""
    return [
        replace(e, columns={"place": np.arange(len(e.target_ids), dtype=np.float32) + 1000 * i, "half": e.weights / 2})
        for i, e in enumerate(examples)
    ]


seen: list[LiveTokens] = []


@dataclass(frozen=True)
class Spy(Method):
    name = "spy"
    summary = "keeps what it was shown"
    online = True

    def online_weights(self, live: LiveTokens) -> Tensor:
        seen.append(live)
        return live.columns["half"]


def test_a_rule_sees_row_position_and_columns_of_every_token(tmp_path: Path) -> None:
    examples = with_columns(make_examples(7, seed=1))
    seen.clear()
    run(soft_model("llama"), examples, tmp_path, Spy(), microbatch_tokens=40, batch_size=3, epochs=1)
    steps = sorted({live.progress for live in seen})
    order = list(batches(7, 3, 1.0, 0))
    assert len(steps) == len(order)
    for progress, batch in zip(steps, order, strict=True):
        pieces = [live for live in seen if live.progress == progress]
        got = {
            (int(r), int(p), float(c))
            for live in pieces
            for r, p, c in zip(live.row, live.position, live.columns["place"], strict=True)
        }
        wanted = {
            (row, int(t), float(1000 * i + t))
            for row, i in enumerate(batch)
            for t in np.flatnonzero(examples[i].weights)
        }
        assert got == wanted
        assert sum(len(live.logp) for live in pieces) == len(wanted)


def test_a_column_as_weight_is_that_weight(tmp_path: Path) -> None:
    plain = make_examples(6, seed=1)
    run(soft_model("llama"), with_columns(plain), tmp_path / "a", Spy())
    run(soft_model("llama"), [replace(e, weights=e.weights / 2) for e in plain], tmp_path / "b", Sft())
    assert [x["loss"] for x in metrics(tmp_path / "a")] == [x["loss"] for x in metrics(tmp_path / "b")]


def job(folder: Path) -> TrainJob:
    return TrainJob("m", "fp32", "cpu", "sft", {}, (), TrainingConfig(), 0, str(folder), "base")


def test_columns_travel_with_a_job(tmp_path: Path) -> None:
    examples = with_columns(make_examples(5))
    write_job(tmp_path, job(tmp_path), TrainingSet(examples))
    got = read_job(tmp_path)[1].examples
    for one, other in zip(examples, got, strict=True):
        assert one.columns.keys() == other.columns.keys()
        for name, values in one.columns.items():
            assert other.columns[name].dtype == np.float32
            np.testing.assert_array_equal(other.columns[name], values)
    assert examples_digest(got) == examples_digest(examples)


def test_the_digest_of_plain_examples_is_what_it_was() -> None:
    """And every column's name and values count."""
    plain = make_examples(3)
    sha = hashlib.sha256()
    for e in plain:
        sha.update(f"{e.example_id}\0{len(e.prompt_ids)}\0{len(e.target_ids)}\0".encode())
        for array in (e.prompt_ids, e.target_ids, e.weights, e.keep):
            sha.update(array.tobytes())
    assert examples_digest(plain) == sha.hexdigest()
    named = with_columns(plain)
    other = [replace(e, columns={"elsewhere": e.columns["place"], "half": e.columns["half"]}) for e in named]
    moved = [replace(e, columns={**e.columns, "half": e.columns["half"] * 2}) for e in named]
    assert len({examples_digest(x) for x in (plain, named, other, moved)}) == 4


def test_malformed_columns_are_named(tmp_path: Path) -> None:
    examples = with_columns(make_examples(3))
    short = [*examples[:2], replace(examples[2], columns={**examples[2].columns, "half": np.zeros(1, np.float32)})]
    with pytest.raises(TrainingError, match="t/train/2: column 'half' has 1 values"):
        run(soft_model("llama"), short, tmp_path)
    missing = [*examples[:2], replace(examples[2], columns={})]
    with pytest.raises(
        TrainingError, match=r"t/train/2 has the columns \(none\) and example t/train/0 has half, place"
    ):
        run(soft_model("llama"), missing, tmp_path)
    with pytest.raises(TrainingError, match=r"t/train/2 has the columns \(none\)"):
        write_job(tmp_path, job(tmp_path), TrainingSet(missing))
    bad = [replace(e, columns={"a.length": e.weights}) for e in examples]
    with pytest.raises(TrainingError, match=r"'a.length' is not a valid column name"):
        write_job(tmp_path, job(tmp_path), TrainingSet(bad))
