"""Whatever happens to the files of a store, finished or killed half-way: the next run gives the same bytes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.console import Console
from dasd_bench.errors import StoreError
from dasd_bench.run.sharded import run_sharded
from dasd_bench.store.atomic import is_plain_file
from dasd_bench.store.store import Entry, EntryShards, Row, Store
from dasd_bench.types import TokenScores
from tests.store.damage import KINDS, damage, damage_some

KEY = "a" * 64
LENGTHS = [5, 3, 4, 1, 2]


class KilledError(BaseException):
    pass


class Work:
    """A stage in shards, one inside another stage, and one with records of its own; killed at the n-th computation."""

    def __init__(self, root: Path, kill_at: int = -1) -> None:
        self.store = Store(root)
        self.console = Console(quiet=True)
        self.said: list[str] = []
        self.console.notice = self.said.append  # type: ignore[method-assign]
        self.left = kill_at

    def tick(self) -> None:
        if self.left == 0:
            raise KilledError
        self.left -= 1

    def scores(self) -> list[TokenScores]:
        def compute(indices, report):
            self.tick()
            return [token_scores(LENGTHS[i]) for i in indices]

        return run_sharded(
            self.store, self.console, "score", KEY, TokenScores, LENGTHS, compute, shard_size=2, label="x"
        )[0]

    def run(self) -> list[object]:
        def targets(entry: Entry) -> Row:
            scores = self.scores()
            self.tick()
            entry.put("targets", repr([s.logp.tolist() for s in scores]).encode())
            return {"mean": float(np.mean([s.logp.sum() for s in scores]))}

        def evaluate(entry: Entry) -> Row:
            shards = EntryShards(entry)
            rows = []
            for name in "xyz":
                found = shards.get(name)
                if found is None:
                    self.tick()
                    found = [{"name": name, "value": ord(name) / 7}]
                    shards.put(name, found)
                rows += found
            entry.put("folder/samples.jsonl", repr(rows).encode())
            return {"rows": rows}

        made, _ = self.store.get_or_make("targets", KEY, targets, self.said.append)
        found, _ = self.store.get_or_make("evaluate", KEY, evaluate, self.said.append)
        scores = self.scores()
        return [
            made.read("targets"),
            made.meta,
            found.read("folder/samples.jsonl"),
            found.meta,
            [s.logp.tobytes() for s in scores],
            [s.rank.tobytes() for s in scores],
        ]


def token_scores(n: int) -> TokenScores:
    values = np.sqrt(np.arange(n, dtype=np.float32))
    return TokenScores(values, values + 1, values + 2, np.arange(n, dtype=np.int32))


def stored(root: Path) -> dict[str, bytes]:
    """The bytes of every stored result."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if is_plain_file(path)
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        # How many shards were computed in this session is no result.
        and path.relative_to(root).as_posix() != f"score/{KEY[:40]}/done.json"
    }


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], dict[str, bytes]]:
    root = tmp_path_factory.mktemp("right")
    return Work(root).run(), stored(root)


@settings(max_examples=150, deadline=None)
@given(kill_at=st.integers(-1, 6), count=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_damage_anywhere_is_mended(tmp_path_factory, right, kill_at: int, count: int, seed: int) -> None:
    root = tmp_path_factory.mktemp("store")
    outside = tmp_path_factory.mktemp("outside") / "file"
    outside.write_text("not ours")
    if kill_at < 0:
        Work(root).run()
    else:
        with pytest.raises(KilledError):
            Work(root, kill_at).run()
    done = damage_some(root, count, outside, random.Random(seed))
    assert Work(root).run() == right[0], done
    assert stored(root) == right[1], done
    assert outside.read_text() == "not ours", done
    assert not outside.with_name("nowhere").exists(), done
    again = Work(root, kill_at=0)
    assert again.run() == right[0]
    assert again.said == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("killed", [False, True])
def test_only_the_damaged_shard_is_computed_again(tmp_path: Path, right, kind: str, killed: bool) -> None:
    work = Work(tmp_path / "store", 2 if killed else -1)
    try:
        work.scores()
    except KilledError:
        assert killed
    folder = tmp_path / "store" / "score" / KEY[:40]
    kept = (folder / "00001.safetensors").stat().st_mtime_ns
    outside = tmp_path / "file"
    outside.write_text("not ours")
    damage(folder / "00000.safetensors", kind, outside, random.Random(0))
    again = Work(tmp_path / "store", 2 if killed else 1)
    assert [s.logp.tobytes() for s in again.scores()] == right[0][4]
    assert again.left == 0
    assert (folder / "00001.safetensors").stat().st_mtime_ns == kept
    assert (folder / "00000.safetensors").read_bytes() == right[1][f"score/{KEY[:40]}/00000.safetensors"]
    if kind == "delete" and killed:
        assert again.said == []  # a part that is not there was not made yet, for all that can be known
    else:
        assert len(again.said) == 1
        assert "00000.safetensors" in again.said[0]
        assert "recomputed" in again.said[0]


@pytest.mark.parametrize(
    "text",
    ["[]", "1", "null", '{"files": []}', '{"files": {"a": 1}, "sha256": ""}', '"x"', "[" * 9999, '{"sha256": 0}'],
)
def test_a_record_of_another_shape_is_no_record(tmp_path: Path, text: str) -> None:
    work = Work(tmp_path)
    first = work.run()
    for path in tmp_path.rglob("done.json"):
        path.write_text(text)
    again = Work(tmp_path)
    assert not again.store.entry("score", KEY).finished()
    assert again.run() == first
    assert len(again.said) == 3


def test_a_record_of_another_entry_is_no_record(tmp_path: Path) -> None:
    work = Work(tmp_path)
    work.run()
    other = work.store.entry("score", "b" * 64)
    other.path.mkdir()
    (other.path / "done.json").write_bytes((work.store.entry("score", KEY).path / "done.json").read_bytes())
    assert other.finished() is None


def test_damage_between_writing_and_reading_is_never_certified(tmp_path: Path) -> None:
    """The hash that counts is that of what was written, not of what lies there when the stage ends."""

    def make(entry: Entry) -> Row:
        entry.put("a.jsonl", b'{"a": 1}\n')
        (entry.path / "a.jsonl").write_bytes(b'{"a": 2}\n')
        return {}

    store = Store(tmp_path)
    found, _ = store.get_or_make("score", KEY, make, print)
    with pytest.raises(StoreError, match="was damaged"):
        found.read("a.jsonl")

    def make_well(entry: Entry) -> Row:
        entry.put("a.jsonl", b'{"a": 1}\n')
        return {}

    found, reused = store.get_or_make("score", KEY, make_well, print)
    assert not reused
    assert json.loads(found.read("a.jsonl")) == {"a": 1}


def test_a_part_removed_before_the_end_is_never_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def make(entry: Entry) -> Row:
        entry.put("a", b"a")
        entry.put("b", b"b")
        (entry.path / "a").unlink()
        return {}

    with pytest.raises(StoreError, match="a was removed while in use"):
        store.get_or_make("score", KEY, make, print)
    assert store.entry("score", KEY).finished() is None


def test_an_entry_knows_what_it_was_made_of(tmp_path: Path) -> None:
    """Through the whole chain, also where the inner stages are not looked at again."""
    for _ in range(2):
        work = Work(tmp_path)
        work.run()
        assert set(work.store.used) == {f"{stage}/{KEY[:40]}" for stage in ("score", "targets", "evaluate")}
    only = Work(tmp_path)
    only.store.get_or_make("targets", KEY, lambda entry: {}, print)
    assert only.store.used == [f"score/{KEY[:40]}", f"targets/{KEY[:40]}"]
