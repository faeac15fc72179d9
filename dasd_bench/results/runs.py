"""Finds run directories and reads what they say of themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dasd_bench.errors import DasdError, StoreError, UsageError, did_you_mean
from dasd_bench.files.json_file import read_object
from dasd_bench.results.directory import MARKS, RESULTS_FILE, RunDirectory
from dasd_bench.results.schema import RunResults

MISSING = "–"

SHAPES = {
    "status": str, "created": str, "command": str, "model": dict, "chat_template": dict, "seeds": list, "arms": list,
    "tasks": list, "failures": list, "left_out": list, "stages": dict, "environment": dict, "regraded": list,
}  # fmt: skip
"""The fields of a manifest that are read again, where they are there, with their kinds."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of ``list runs``. ``problem`` is the sentence that says why a run cannot be read, or empty."""

    name: str
    path: Path
    status: str
    model: str = ""
    methods: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    created: str = ""
    problem: str = ""


def is_run(path: Path) -> bool:
    """True for a folder that holds a run, finished or not."""
    return path.is_dir() and any((path / name).is_file() for name in MARKS)


def run_inputs(runs: Iterable[Path]) -> list[Path]:
    """The files that tables, figures and pages of runs are made from: no output may replace them."""
    return [run / name for run in runs for name in MARKS]


def run_dirs(folder: Path) -> list[Path]:
    """The runs directly under ``folder``, by name."""
    return sorted(path for path in folder.iterdir() if is_run(path)) if folder.is_dir() else []


def find_run(name: str, folder: Path) -> Path:
    """The run called ``name``: a path, or a name under ``folder``; raises :class:`UsageError` with a suggestion."""
    for path in (Path(name), folder / name):
        if is_run(path):
            return path
    known = [path.name for path in run_dirs(folder)]
    if Path(name).is_dir():
        raise UsageError(f"{name} is a folder without a run (no {', '.join(MARKS)}); name a run directory.")
    listed = f" Runs in {folder}: {', '.join(known)}." if known else f" There are no runs in {folder}."
    raise UsageError(f"Unknown run '{name}'.{did_you_mean(name, known)}{listed}")


def newest_run(folder: Path) -> Path:
    """The run that was finished or changed last; raises :class:`UsageError` where there is none."""
    found = run_dirs(folder)
    if not found:
        raise UsageError(f"There are no runs in {folder}; make one with 'dasd-bench run' or name a run directory.")
    return max(found, key=lambda path: max((path / m).stat().st_mtime for m in MARKS if (path / m).exists()))


def read_manifest(run: Path) -> dict[str, Any]:
    """``manifest.json``, or an empty dict for an unfinished run; raises :class:`StoreError` where it is damaged."""
    path = RunDirectory(run).manifest
    hint = "run the command again to rebuild it"
    try:
        found = read_object(path, hint=hint)
    except FileNotFoundError:
        return {}
    for name, kind in SHAPES.items():
        value = found.get(name)
        objects = name in ("tasks", "arms") and isinstance(value, list)
        if value is not None and (
            not isinstance(value, kind) or (objects and not all(isinstance(one, dict) for one in value))
        ):
            raise StoreError(f"{path}: '{name}' is not as this program writes it; {hint}.")
    return found


def load_run(run: Path, *, items: bool = True) -> RunResults:
    """The results of a run directory; ``items`` as in :meth:`RunResults.load`.

    A run without a manifest was interrupted, and is partial, unless it has every score that it should have. Raises
    :class:`StoreError` where the results are damaged, were never made, or were not copied with the rest.
    """
    manifest = read_manifest(run)
    if manifest.get("status") in ("finished", "partial") and not RunDirectory(run).results.exists():
        raise StoreError(
            f"{run} has the manifest of a {manifest['status']} run but not its {RESULTS_FILE}, which tables are "
            f"made from: copy that file from the original run, or repeat it with 'dasd-bench run -c "
            f"{RunDirectory(run).spec}'."
        )
    results = RunResults.load(run, items=items)
    if manifest and manifest.get("status") != "finished":
        results.status = "cancelled" if manifest.get("status") == "cancelled" else "partial"
    elif not manifest and not _complete(results):
        results.status = "partial"
    return results


_ONE_SEED = {0}
"""The seeds of a row whose adapter was trained elsewhere."""


def _complete(results: RunResults) -> bool:
    """True where the base and every method, with every seed, have a score on every task."""
    tasks = {task.name for task in results.tasks}
    seeds = {arm.label: {one.seed for one in arm.seeds if tasks <= one.scores.keys()} for arm in results.arms}
    given = {arm.label for arm in results.arms if arm.adapter is not None}
    wanted = set(results.seeds)
    return tasks <= results.base.keys() and all(
        (_ONE_SEED if name in given else wanted) <= seeds.get(name, set()) for name in results.methods
    )


def summarize(run: Path) -> RunSummary:
    """One run's line; a run that cannot be read says so instead of failing the list."""
    try:
        manifest = read_manifest(run)
        created = str(manifest.get("created", ""))
        if not RunDirectory(run).results.exists():
            return RunSummary(run.name, run, str(manifest.get("status", "unfinished")), created=created)
        results = load_run(run, items=False)
    except DasdError as err:
        return RunSummary(run.name, run, "unreadable", problem=str(err))
    return RunSummary(
        run.name,
        run,
        results.status,
        results.model,
        [arm.label for arm in results.arms],
        [task.name for task in results.tasks],
        created,
    )


def list_runs(folder: Path) -> list[RunSummary]:
    """All runs directly under ``folder``, newest first where they say when they were made."""
    return sorted((summarize(run) for run in run_dirs(folder)), key=lambda run: (run.created, run.name), reverse=True)


def manifest_lines(manifest: dict[str, Any]) -> Iterator[str]:
    """The manifest as readable lines, ``name: value``, nested objects dotted; long lists are counted."""
    for name, value in manifest_items(manifest):
        yield f"  {name}: {value}"


def manifest_items(manifest: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The manifest as (dotted name, value) pairs; long lists and lists of objects are counted."""
    return _flat(manifest, "")


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(value, list) and (len(value) > 8 or any(isinstance(item, (dict, list)) for item in value)):
        yield prefix, f"{len(value)} entr{'y' if len(value) == 1 else 'ies'}"
    elif isinstance(value, list):
        yield prefix, ", ".join(map(str, value)) or MISSING
    else:
        yield prefix, MISSING if value is None or value == "" else str(value)
