"""What the store says of itself, and what prune removes and keeps."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from dasd_bench.errors import UsageError
from dasd_bench.store.journal import RUN_LOCK, RunJournal, read_journals
from dasd_bench.store.locks import FileLock
from dasd_bench.store.store import Entry, Row, Store
from dasd_bench.store.usage import DAY, by_age, by_run, by_stage, candidates, parse_age, prune, scan
from tests.run.helpers import command

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def make(entry: Entry) -> Row:
    entry.put("x", b"1" * 1000)
    return {}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Entries A and B used by a run each, C by a run whose directory is gone; C is 40 days old."""
    root = tmp_path / "store"
    for name, key in (("one", A), ("two", B), ("gone", C)):
        run = tmp_path / name
        store = Store(root, RunJournal(root, run))
        store.get_or_make("score", key, make, print)
        if name != "gone":
            run.mkdir()
    store = Store(root, RunJournal(root, tmp_path / "two"))
    store.get_or_make("train", A, make, print)
    store.get_or_make("score", A, make, print)
    old = time.time() - 40 * DAY
    os.utime(root / "score" / C[:40] / "done.json", (old, old))
    return root


def names(stored) -> set[str]:
    return {f"{one.stage} {one.path.name[0]}" for one in stored}


def test_sizes_by_stage_run_and_age(root: Path, tmp_path: Path) -> None:
    stored = scan(root)
    assert names(stored) == {"score a", "score b", "score c", "train a"}
    for one in stored:
        assert one.size_bytes == sum(path.stat().st_size for path in one.path.rglob("*"))
    assert [(share.name, share.entries) for share in by_stage(stored)] == [("score", 3), ("train", 1)]
    runs = {share.name: share.entries for share in by_run(stored, read_journals(root))}
    assert runs == {str(tmp_path / "one"): 1, str(tmp_path / "two"): 3, "used by no run": 1}
    ages = {share.name: share.entries for share in by_age(stored, time.time())}
    assert ages == {"up to 1 day": 3, "30 to 90 days": 1}


@pytest.mark.parametrize(
    ("days", "unused", "expected"),
    [
        (30, False, {"score c"}),
        (None, True, {"score c"}),
        (60, True, set()),
        (0, False, {"score a", "score b", "score c", "train a"}),
    ],
)
def test_prune_removes_what_meets_all_conditions(root: Path, days, unused: bool, expected: set[str]) -> None:
    chosen = candidates(root, older_than_days=days, unused=unused, now=time.time() + 1)
    assert names(prune(root, chosen, print, dry_run=True)) == expected
    assert len(scan(root)) == 4
    assert names(prune(root, chosen, print, dry_run=False)) == expected
    assert len(scan(root)) == 4 - len(expected)
    assert list((root / "locks").iterdir()) == []


def test_what_a_live_run_uses_is_kept_and_said(root: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with FileLock(tmp_path / "two" / RUN_LOCK):
        chosen = candidates(root, older_than_days=0, unused=False, now=time.time() + 1)
        assert names(prune(root, chosen, said.append, dry_run=False)) == {"score c"}
    assert len(said) == 1
    assert f"{tmp_path / 'two'} is in progress (process {os.getpid()} on" in said[0]
    assert "3 entries" in said[0]
    assert names(scan(root)) == {"score a", "score b", "train a"}


def test_an_entry_that_is_being_made_is_kept_and_said(root: Path) -> None:
    said: list[str] = []
    chosen = candidates(root, older_than_days=0, unused=False, now=time.time() + 1)
    with FileLock(Store(root).lock_path("score", C[:40])):
        removed = prune(root, chosen, said.append, dry_run=False)
    assert names(removed) == {"score a", "score b", "train a"}
    assert len(said) == 1
    assert "is kept" in said[0]


def test_reuse_counts_as_use(root: Path) -> None:
    Store(root).get_or_make("score", C, make, print)
    assert candidates(root, older_than_days=30, unused=False, now=time.time()) == []


def test_nothing_but_entries_is_ever_a_candidate(tmp_path: Path) -> None:
    """A folder that is no store may be named by mistake."""
    for name in ("score/notes/a", "photos/b", "train/c", f"generate/{'A' * 40}/d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    assert candidates(tmp_path, older_than_days=None, unused=True, now=time.time()) == []


@pytest.mark.parametrize("text", ["", "[]\n", '{"run": 1}\n', "\x00\xff", '{"run": "/x"}\n"score/\n', "7\n"])
def test_a_damaged_journal_is_passed_over(root: Path, text: str) -> None:
    (root / "runs" / "broken.jsonl").write_text(text)
    os.mkfifo(root / "runs" / "fifo.jsonl")
    assert len([use for use in read_journals(root) if use.run != Path("/x")]) == 3


@pytest.mark.parametrize(("text", "days"), [("30", 30), ("30d", 30), ("12h", 0.5), ("4w", 28), ("0", 0), ("1.5d", 1.5)])
def test_ages(text: str, days: float) -> None:
    assert parse_age(text) == days


@pytest.mark.parametrize("text", ["", "-1", "d", "30 days", "1e3", "inf", "nan", "9" * 5000])
def test_bad_ages(text: str) -> None:
    with pytest.raises(UsageError, match="older-than"):
        parse_age(text)


def test_the_verbs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = command(capsys, "store", "--store", str(root))
    assert result.code == 0
    assert "used by no run" in result.out
    assert command(capsys, "store", "prune", "--store", str(root)).code == 2
    assert command(capsys, "store", "--store", str(root / "none")).code == 2
    result = command(capsys, "store", "prune", "--unused", "--dry-run", "--store", str(root), "--json")
    assert result.code == 0
    assert json.loads(result.out.splitlines()[-1])["removed"] == 1
    assert len(scan(root)) == 4
    assert command(capsys, "store", "--store", str(root), "prune", "--unused").code == 0
    assert len(scan(root)) == 3
