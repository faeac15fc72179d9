"""The store: finished, damaged and half-made entries; ragged arrays; shards."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.console import Console
from dasd_bench.errors import StoreError
from dasd_bench.run.sharded import pack, run_sharded, unpack
from dasd_bench.store import atomic
from dasd_bench.store.atomic import canonical, digest, write_text
from dasd_bench.store.store import (
    EntryShards,
    Store,
    gather,
    load_ragged,
    ragged_bytes,
    save_ragged,
    shards_of,
    stage_key,
)
from dasd_bench.types import Target, TokenScores

KEY = "a" * 64
SEPARATORS = "\u2028\u2029\x85\x1c\x1d\x1e\x0b\x0c\r\n"


def make_file(entry) -> dict:
    write_text(entry.path / "value.txt", "made")
    return {"answer": 42}


def test_made_once_then_reused(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []

    def make(entry):
        calls.append(1)
        return make_file(entry)

    first, reused_first = store.get_or_make("score", KEY, make, print)
    second, reused_second = store.get_or_make("score", KEY, make, print)
    assert (reused_first, reused_second, len(calls)) == (False, True, 1)
    assert second.meta == {"answer": 42}
    assert first.path == second.path


def test_damaged_entry_is_made_again_and_said(tmp_path: Path) -> None:
    store, said = Store(tmp_path), []
    entry, _ = store.get_or_make("score", KEY, make_file, said.append)
    (entry.path / "value.txt").write_text("MADE")  # same size, other bytes
    entry, reused = store.get_or_make("score", KEY, make_file, said.append)
    assert not reused
    assert "damaged" in said[0]
    assert (entry.path / "value.txt").read_text() == "made"


def test_entry_without_done_file_is_not_finished(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ZeroDivisionError):
        store.get_or_make("score", KEY, lambda entry: make_file(entry) and 1 / 0, print)
    assert not store.entry("score", KEY).finished()
    assert store.get_or_make("score", KEY, make_file, print)[1] is False


def test_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space left while writing .*; free some disk"):
        write_text(tmp_path / "x.txt", "x")
    assert os.listdir(tmp_path) == []


ARRAYS = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=9), min_size=1, max_size=6)


@given(ARRAYS)
def test_ragged_arrays_survive(tmp_path_factory, items) -> None:
    path = tmp_path_factory.mktemp("ragged") / "x.safetensors"
    ints = [np.array(item, dtype=np.int32) for item in items]
    floats = [np.sqrt(np.array(item, dtype=np.float32)) for item in items]
    rows = [{"text": "é\n" * len(item), "n": len(item)} for item in items]
    save_ragged(path, {"ints": ints, "floats": floats}, rows)
    first = path.read_bytes()
    fields, loaded = load_ragged(path)
    assert loaded == rows
    for name, originals in (("ints", ints), ("floats", floats)):
        for original, back in zip(originals, fields[name], strict=True):
            assert back.dtype == original.dtype
            assert np.array_equal(back, original)
    save_ragged(path, {"ints": ints, "floats": floats}, rows)
    assert path.read_bytes() == first


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), max_size=6))
def test_items_with_and_without_an_array_survive_packing(items) -> None:
    none = np.zeros(0, dtype=np.uint8)
    made = [
        Target(
            str(i), np.arange(n, dtype=np.int32), none, none, "é", True, "gold", {}, np.ones(n, np.int32) if p else None
        )
        for i, (p, n) in enumerate(items)
    ]
    arrays, rows = pack(made)
    back = unpack(Target, arrays, rows)
    assert [(t.example_id, t.token_ids.tolist()) for t in back] == [(t.example_id, t.token_ids.tolist()) for t in made]
    for old, new in zip(made, back, strict=True):
        assert (old.proposals is None) == (new.proposals is None)
        assert old.proposals is None or np.array_equal(old.proposals, new.proposals)


def test_packing_makes_nothing_that_grows_with_the_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty array per field is enough, however many items there are."""
    made, zeros = [scores(2) for _ in range(500)], np.zeros
    calls: list[object] = []
    monkeypatch.setattr(np, "zeros", lambda *rest, **more: calls.append(rest) or zeros(*rest, **more))
    pack(made)
    assert len(calls) <= 4


def test_damaged_arrays_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"\x05\x00\x00\x00\x00\x00\x00\x00junk!")
    with pytest.raises(StoreError, match=r"x\.safetensors is damaged"):
        load_ragged(tmp_path / "x.safetensors")


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 9))
def test_shards_hold_every_item_once_longest_first(lengths, size) -> None:
    shards = shards_of(lengths, size)
    flat = [i for shard in shards for i in shard]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
    assert all(len(shard) <= size for shard in shards)
    assert len(shards) == math.ceil(len(lengths) / size)
    assert all(len(shard) in (len(lengths) // len(shards), -(-len(lengths) // len(shards))) for shard in shards)
    assert gather(len(lengths), [(shard, [lengths[i] for i in shard]) for shard in shards]) == lengths


def test_killed_work_goes_on_at_the_unfinished_shard(tmp_path: Path) -> None:
    store, computed = Store(tmp_path), []
    lengths = [5, 4, 3, 2, 1]

    def compute(indices, report):
        if len(computed) == 2 and "stop" not in computed:
            computed.append("stop")
            raise KeyboardInterrupt
        computed.append(tuple(indices))
        return [scores(lengths[i]) for i in indices]

    def run():
        return run_sharded(
            store, Console(quiet=True), "score", KEY, TokenScores, lengths, compute, shard_size=2, label="x"
        )

    with pytest.raises(KeyboardInterrupt):
        run()
    results, reused = run()
    assert computed == [(0,), (1, 2), "stop", (3, 4)]
    assert [len(r.logp) for r in results] == lengths
    assert not reused
    assert run()[1]


def scores(n: int) -> TokenScores:
    values = np.arange(n, dtype=np.float32)
    return TokenScores(values, values, values, np.arange(n, dtype=np.int32))


def test_disk_shards(tmp_path: Path) -> None:
    shards = EntryShards(Store(tmp_path).entry("evaluate", KEY))
    assert shards.get("a") is None
    shards.put("a", [{"x": 1.5}, {"x": "é"}])
    assert shards.get("a") == [{"x": 1.5}, {"x": "é"}]


def test_keys_differ_by_every_part_and_not_by_order_of_names() -> None:
    assert stage_key("score", {"a": 1, "b": 2}) == stage_key("score", {"b": 2, "a": 1})
    different = [stage_key("score", 1), stage_key("score", 2), stage_key("nll", 1), stage_key("score", 1, None)]
    assert len(set(different)) == 4
    assert canonical({"b": (1, 2), "a": np.float32(0.5)}) == '{"a":0.5,"b":[1,2]}'
    assert digest([1], [2]) != digest([1, 2])


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("ab"), st.text("ab" + SEPARATORS, max_size=6), max_size=2), max_size=4))
def test_shards_hold_any_text(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> None:
    """Line separators other than the newline too, which JSON leaves as they are."""
    shards = EntryShards(Store(tmp_path_factory.mktemp("shards")).entry("evaluate", KEY))
    shards.put("one", rows)
    assert shards.get("one") == rows


def test_the_header_of_ragged_arrays_has_one_size_and_old_files_are_read(tmp_path: Path) -> None:
    """Rows were once in the header, which safetensors limits to 100 MB."""
    from safetensors.numpy import save_file

    sizes = []
    for count in (9, 900):
        data = ragged_bytes({"ids": [np.arange(3)] * count}, [{"text": "x" * 50}] * count)
        sizes.append(int.from_bytes(data[:8], "little"))
    assert sizes[1] <= sizes[0] + 64
    lengths = np.array([1, 2])
    old = {"ids": np.arange(3), "ids.length": lengths}
    save_file(old, tmp_path / "old.safetensors", metadata={"rows": json.dumps([{"id": "a"}, {"id": "b"}])})
    fields, rows = load_ragged(tmp_path / "old.safetensors")
    assert [one.tolist() for one in fields["ids"]] == [[0], [1, 2]]
    assert rows == [{"id": "a"}, {"id": "b"}]
