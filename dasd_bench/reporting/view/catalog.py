"""The runs that a viewer lists: found in folders, each summarized from its smallest files, and anew on a change."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from dasd_bench.errors import DasdError
from dasd_bench.results.directory import MARKS, RunDirectory
from dasd_bench.results.progress import Progress, read_progress
from dasd_bench.results.runs import is_run, read_manifest, summarize
from dasd_bench.store.locks import is_dead, machine_id, read_owner

SILENT_SECONDS = 120.0
"""A run on another machine that has not touched its lock for so long is not at work any more."""

WORKING = "running"

Stamp = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the list. ``group`` is the folder that it was found in; ``changed`` is in seconds since the epoch.

    ``key`` names the run in addresses: it says nothing of the path. ``problem`` is why a run cannot be read.
    """

    key: str
    name: str
    group: str
    path: Path
    status: str
    changed: float
    model: str = ""
    methods: Sequence[str] = ()
    tasks: Sequence[str] = ()
    created: str = ""
    problem: str = ""
    progress: Progress | None = None
    has_results: bool = False


@dataclass
class Catalog:
    """The runs in ``roots``: a run's own folder, a sweep, or a folder of runs and sweeps.

    Nothing outside the roots is listed, whatever links lie in them; no address leads to a file that is not listed.
    """

    roots: Sequence[Path]
    _cache: dict[Path, tuple[Stamp, Listed]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def runs(self) -> list[Listed]:
        """All runs: those at work by name, then the others, the latest first."""
        found: dict[Path, Listed] = {}
        for root in self.roots:
            outer = root.resolve()
            for group, path in _runs_in(root):
                real = path.resolve()
                if real not in found and real.is_relative_to(outer):
                    found[real] = self._listed(group, path)
        return sorted(found.values(), key=_place)

    def find(self, key: str) -> Listed | None:
        """The run with this key, None where it is not among the runs (any more)."""
        return next((run for run in self.runs() if run.key == key), None)

    def _listed(self, group: str, path: Path) -> Listed:
        stamp = file_stamp(path)
        with self._lock:
            known = self._cache.get(path)
        if known is None or known[0] != stamp:
            known = stamp, _summary(group, path, stamp)
            with self._lock:
                self._cache[path] = known
        return _with_progress(known[1])


def _place(run: Listed) -> tuple[bool, float, str]:
    # Runs at work change all the time, and their places must not.
    return run.status != WORKING, 0.0 if run.status == WORKING else -run.changed, run.name


def file_stamp(run: Path) -> Stamp:
    """Changes when the run's own files do."""
    found = []
    for name in MARKS:
        try:
            status = (run / name).stat()
            found.append((status.st_mtime_ns, status.st_size))
        except OSError:
            found.append((0, 0))
    return tuple(found)


def _runs_in(root: Path) -> list[tuple[str, Path]]:
    """The runs of a root with the name of the folder that they stand in, sweeps one level deeper."""
    if is_run(root):
        return [(root.resolve().parent.name, root)]
    if (root / "points").is_dir():
        return _sweep(root)
    found = []
    for path in _folders(root):
        if is_run(path):
            found.append((str(root), path))
        elif (path / "points").is_dir():
            found += _sweep(path)
    return found


def _sweep(folder: Path) -> list[tuple[str, Path]]:
    return [(str(folder), run) for run in (*_folders(folder / "points"), folder / "final") if is_run(run)]


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def _summary(group: str, path: Path, stamp: Stamp) -> Listed:
    """A run's line from its manifest, which is small; from its results only where it has no manifest."""
    key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    listed = Listed(key, path.name, group, path, "unfinished", max(time_ns for time_ns, _ in stamp) / 1e9)
    results = RunDirectory(path).results.is_file()
    try:
        manifest = read_manifest(path)
    except DasdError as error:
        return replace(listed, status="unreadable", problem=str(error))
    if manifest:
        spec = {} if manifest.get("arms") else _spec(path)
        return replace(
            listed,
            status=str(manifest.get("status", "unfinished")),
            model=_text(manifest.get("model", {}).get("name")),
            methods=_names(manifest.get("arms"), "label") or _strings(spec.get("methods")),
            tasks=_names(manifest.get("tasks"), "name") or _strings(spec.get("tasks")),
            created=_text(manifest.get("created")),
            has_results=results,
        )
    if results:
        one = summarize(path)
        return replace(
            listed,
            status=one.status,
            model=one.model,
            methods=one.methods,
            tasks=one.tasks,
            problem=one.problem,
            has_results=not one.problem,
        )
    spec = _spec(path)
    return replace(
        listed, model=_text(spec.get("model")), methods=_strings(spec.get("methods")), tasks=_strings(spec.get("tasks"))
    )


def _spec(run: Path) -> dict[str, Any]:
    """``spec.yaml`` for display alone: by libyaml where it is there, and empty where it cannot be read."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = yaml.load(RunDirectory(run).spec.read_bytes(), loader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _with_progress(listed: Listed) -> Listed:
    """The line as of now: at work where a living process holds the run's lock."""
    if not at_work(listed.path):
        return listed
    progress = read_progress(RunDirectory(listed.path).progress)
    changed = max(listed.changed, progress.updated if progress else 0.0)
    return replace(listed, status=WORKING, progress=progress, changed=changed)


def at_work(run: Path) -> bool:
    """Whether a process works on the run: its lock's owner lives, or, on another machine, still touches it."""
    lock = RunDirectory(run).lock
    owner = read_owner(lock)
    if owner is None or is_dead(owner):
        return False
    if owner.machine == machine_id():
        return True
    try:
        return time.time() - lock.stat().st_mtime < SILENT_SECONDS
    except OSError:
        return False


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _names(values: Any, field_name: str) -> list[str]:
    return [_text(one.get(field_name)) for one in values or ()]


def _strings(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
