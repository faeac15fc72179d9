"""What lies in the store: size by stage, by run and by age, and what can go."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dasd_bench.errors import StoreError, UsageError
from dasd_bench.store.atomic import disk_errors, is_plain_folder, remove
from dasd_bench.store.journal import RunUse, read_journals
from dasd_bench.store.locks import FileLock
from dasd_bench.store.store import DAMAGED, DONE, KINDS, Store

DAY = 86_400.0
AGES = ((1, "up to 1 day"), (7, "1 to 7 days"), (30, "7 to 30 days"), (90, "30 to 90 days"))
OLDER = "over 90 days"
DAMAGED_STAGE = "damaged"


@dataclass(frozen=True, slots=True)
class Stored:
    """One entry, or one damaged file that was set aside (``stage`` is then :data:`DAMAGED_STAGE`).

    ``last_used`` is in seconds since the epoch: when it was made or last reused.
    """

    stage: str
    path: Path
    size_bytes: int
    last_used: float

    @property
    def name(self) -> str:
        """``<stage>/<key>``, as journals and manifests have it."""
        return f"{self.path.parent.name}/{self.path.name}"

    def age_days(self, now: float) -> float:
        """Days since it was last used."""
        return max(0.0, now - self.last_used) / DAY


@dataclass(frozen=True, slots=True)
class Share:
    """A line of a usage table: how many entries, how many bytes."""

    name: str
    entries: int
    size_bytes: int


def scan(root: Path) -> list[Stored]:
    """Every entry of a store, finished or not, and every damaged file that was set aside; nothing else is looked at."""
    found = []
    for stage in KINDS:
        for path in _folders(root / stage):
            if re.fullmatch("[0-9a-f]{40}", path.name):
                found.append(_stored(stage, path))
        if (root / stage / DAMAGED).is_dir():
            found += [_stored(DAMAGED_STAGE, path) for path in sorted((root / stage / DAMAGED).iterdir())]
    return found


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if is_plain_folder(path))


def _stored(stage: str, path: Path) -> Stored:
    files: dict[Path, os.stat_result] = {}
    for file in path.rglob("*") if is_plain_folder(path) else (path,):
        with contextlib.suppress(FileNotFoundError):  # a run at work renames and removes
            files[file] = file.lstat()
    done = files.get(path / DONE)
    times = [done.st_mtime] if done is not None else [status.st_mtime for status in files.values()]
    return Stored(
        stage, path, sum(s.st_size for s in files.values() if not stat.S_ISDIR(s.st_mode)), max(times, default=0)
    )


def by_stage(stored: Sequence[Stored]) -> list[Share]:
    """The share of every stage that has entries."""
    return [_share(stage, [s for s in stored if s.stage == stage]) for stage in dict.fromkeys(s.stage for s in stored)]


def by_age(stored: Sequence[Stored], now: float) -> list[Share]:
    """The share of every age."""
    groups: dict[str, list[Stored]] = {}
    for one in stored:
        name = next((text for days, text in AGES if one.age_days(now) <= days), OLDER)
        groups.setdefault(name, []).append(one)
    return [_share(name, groups[name]) for name in [*(text for _, text in AGES), OLDER] if name in groups]


def by_run(stored: Sequence[Stored], uses: Sequence[RunUse]) -> list[Share]:
    """The share of every run directory that still exists, and of what none of them uses; entries of two count twice."""
    lines = []
    for use in uses:
        if use.exists:
            lines.append(_share(str(use.run), [one for one in stored if one.name in use.entries]))
    unused = unused_by_runs(stored, uses)
    return [*lines, _share("used by no run", unused)] if unused else lines


def unused_by_runs(stored: Sequence[Stored], uses: Sequence[RunUse]) -> list[Stored]:
    """What no existing run directory uses."""
    used = set().union(*(use.entries for use in uses if use.exists or use.owner is not None))
    return [one for one in stored if one.name not in used]


def _share(name: str, stored: Sequence[Stored]) -> Share:
    return Share(name, len(stored), sum(one.size_bytes for one in stored))


def parse_age(text: str) -> float:
    """Days from ``30d``, ``12h``, ``4w`` or ``30`` (days); raises :class:`UsageError`."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*([hdw]?)", text.strip())
    if match is None:
        raise UsageError(f"--older-than {text}: write a number of days, or 12h, 30d, 4w.")
    return float(match[1]) * {"h": 1 / 24, "d": 1.0, "w": 7.0, "": 1.0}[match[2]]


def candidates(root: Path, *, older_than_days: float | None, unused: bool, now: float) -> list[Stored]:
    """What may go: unused for ``older_than_days`` and, with ``unused``, used by no run directory. Live runs aside."""
    found = scan(root)
    if older_than_days is not None:
        found = [one for one in found if one.age_days(now) > older_than_days]
    return unused_by_runs(found, read_journals(root)) if unused else found


def prune(root: Path, chosen: Sequence[Stored], say: Callable[[str], None], *, dry_run: bool) -> list[Stored]:
    """Removes entries and gives those removed (with ``dry_run``: that would be).

    Nothing that a run in progress uses, or that some process is making right now, is touched; ``say`` gets a sentence
    on each such run or entry.
    """
    removed = []
    for use in (use for use in read_journals(root) if use.owner is not None):
        kept = sum(one.name in use.entries for one in chosen)
        if kept and use.owner is not None:
            say(
                f"{use.run} is in progress (process {use.owner.pid} on {use.owner.host}): "
                f"{kept} entries that it uses are kept."
            )
    for one in chosen:
        if one.stage == DAMAGED_STAGE:
            if not dry_run:
                remove(one.path)
            removed.append(one)
        elif _remove_entry(root, one, say, dry_run):
            removed.append(one)
    return removed


def _remove_entry(root: Path, one: Stored, say: Callable[[str], None], dry_run: bool) -> bool:
    lock = FileLock(Store(root).lock_path(one.stage, one.path.name), timeout=0)
    try:
        lock.acquire()
    except StoreError as error:
        say(f"{one.name} is kept: {error}")
        return False
    try:
        # Under the lock, since a run notes an entry before it looks at it.
        if any(one.name in use.entries for use in read_journals(root) if use.owner is not None):
            return False
        if not dry_run:
            with disk_errors(one.path):
                # Renamed first: what is left of an interrupted removal is no entry.
                aside = one.path.parent / DAMAGED / f"{one.path.name}-{time.time_ns():x}"
                aside.parent.mkdir(exist_ok=True)
                one.path.rename(aside)
                remove(aside)
    finally:
        lock.release()
    return True
