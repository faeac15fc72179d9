"""Which run used what of the store: one file ``<store>/runs/<hash of the run directory>.jsonl`` for each run directory.

The first line names the run directory, each further one an entry (``<stage>/<key>``), written before the entry is
looked at. So what a run in progress uses is known to others, and so is what a killed run would go on with.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dasd_bench.errors import StoreError
from dasd_bench.store.atomic import digest, is_plain_file, remove, write_text
from dasd_bench.store.locks import LockOwner, is_dead, read_owner

FOLDER = "runs"
RUN_LOCK = ".lock"
"""The lock file that a run holds in its directory."""


@dataclass(frozen=True, slots=True)
class RunJournal:
    """The journal of the run directory ``run`` (an absolute path) in the store ``root``."""

    root: Path
    run: Path

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self.root / FOLDER / f"{digest(str(self.run))[:16]}.jsonl"

    def add(self, names: Iterable[str]) -> None:
        """Notes entries. A store that cannot be written does without: it can be read all the same."""
        with contextlib.suppress(OSError, StoreError):
            if not is_plain_file(self.path):
                remove(self.path)
                self.replace(())
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(name) + "\n" for name in names))

    def replace(self, names: Iterable[str]) -> None:
        """Writes the whole journal again: these entries and no others."""
        with contextlib.suppress(OSError, StoreError):
            lines = [{"run": str(self.run)}, *sorted(set(names))]
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))


@dataclass(frozen=True, slots=True)
class RunUse:
    """A run directory and the entries it uses. ``owner`` is the process at work in it, None where there is none."""

    run: Path
    entries: frozenset[str]
    owner: LockOwner | None

    @property
    def exists(self) -> bool:
        """False where the run directory was removed."""
        return self.run.is_dir()


def read_journals(root: Path) -> list[RunUse]:
    """All runs that a store knows of, by path; a line that is torn or damaged is passed over."""
    found = []
    for path in sorted((root / FOLDER).glob("*.jsonl")):
        if not is_plain_file(path):
            continue
        run, names = None, set()
        for line in path.read_bytes().split(b"\n"):
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                value = json.loads(line)
                if isinstance(value, str):
                    names.add(value)
                else:
                    run = Path(value["run"])
        if run is not None:
            owner = read_owner(run / RUN_LOCK)
            found.append(RunUse(run, frozenset(names), None if owner is None or is_dead(owner) else owner))
    return sorted(found, key=lambda use: use.run)
