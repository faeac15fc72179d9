"""Checks the entries of ``results/``: what is there, whether it agrees with itself, and what it compares with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dasd_bench.config.spec import RunSpec, read_file, resolve
from dasd_bench.errors import DasdError
from dasd_bench.files.json_file import read_object
from dasd_bench.reporting.leaderboard.entry import ENTRY_FILE, KINDS, EntryFolder, entry_folders
from dasd_bench.reporting.leaderboard.rows import conditions_that_differ, task_conditions
from dasd_bench.reporting.render import render
from dasd_bench.reporting.show import run_tables
from dasd_bench.results.directory import MANIFEST_FILE, RESULTS_FILE, SPEC_FILE, TABLES_FILE, RunDirectory
from dasd_bench.results.probe import load_probe
from dasd_bench.results.runs import load_run, read_manifest
from dasd_bench.results.schema import RunResults

SHA256 = re.compile(r"[0-9a-f]{64}")
HOME = re.compile(r"(?:[A-Z]:)?[/\\](?:home|Users|root)[/\\][^\s'\"]*")
"""A path below a home folder, on Linux, macOS or Windows: it names somebody's machine."""
NEEDED = {"sweep": ("points", "best", "base"), "ablation": ("model", "method", "points")}
"""What the file of an entry that is no run must have."""


@dataclass(slots=True)
class Checked:
    """What is wrong with an entry (``problems``), what its readers should know, and its results where it has them."""

    entry: EntryFolder
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    results: RunResults | None = None
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True for an entry that may be added."""
        return not self.problems


def check_results(folder: Path) -> list[Checked]:
    """Every entry of ``folder``, checked; raises :class:`UsageError` where there is none."""
    found = [check_entry(entry) for entry in entry_folders(folder)]
    for one in found:
        others = [other for other in found if other is not one]
        one.notes += comparable_lines(one, others)
    return found


def check_entry(entry: EntryFolder) -> Checked:
    """One entry by itself."""
    checked = Checked(entry)
    if entry.problem:
        checked.problems.append(entry.problem)
    if entry.kind in ("run", "tables"):
        _check_run(checked)
    else:
        _check_other(checked)
    if not (entry.path / TABLES_FILE).is_file():
        checked.problems.append(f"{TABLES_FILE} is missing.")
    elif checked.results is not None:
        _check_tables(checked)
    return checked


def entry_tables(results: RunResults) -> str:
    """What ``tables.md`` of an entry holds: ``dasd-bench table RUN --format md --notes``."""
    return render(run_tables([results]), "md", notes=True)


def _check_run(checked: Checked) -> None:
    entry = checked.entry
    try:
        checked.manifest = read_manifest(entry.path)
        if entry.kind == "run":
            checked.results = load_run(entry.path)
    except DasdError as error:
        checked.problems.append(str(error))
        return
    if entry.kind == "tables":
        if entry.without_results:
            checked.notes.append(f"Older form without {RESULTS_FILE}: {entry.without_results}")
        elif not entry.problem:
            checked.problems.append(f"{RESULTS_FILE} is missing: add it, or say in {ENTRY_FILE} why it cannot be had.")
    elif entry.without_results:
        checked.problems.append(f"{ENTRY_FILE} gives a reason for a missing {RESULTS_FILE}, which is there.")
    if checked.manifest:
        checked.problems += manifest_problems(checked.manifest)
    else:
        checked.problems.append(f"{MANIFEST_FILE} is missing.")
    spec = _spec(checked)
    if checked.results is not None and checked.manifest:
        checked.problems += disagreements(checked.results, checked.manifest)
    if spec is not None and checked.results is not None and spec.model != checked.results.model:
        checked.problems.append(f"{SPEC_FILE} has the model {spec.model}, {RESULTS_FILE} {checked.results.model}.")
    texts = (str(checked.manifest.get("command", "")), _text(RunDirectory(entry.path).spec))
    if homes := {found for text in texts for found in HOME.findall(text)}:
        checked.notes.append(f"It names folders of one machine ({', '.join(sorted(homes)[:2])}); shorten them.")


def _spec(checked: Checked) -> RunSpec | None:
    path = RunDirectory(checked.entry.path).spec
    if not path.is_file():
        checked.problems.append(f"{SPEC_FILE} is missing.")
        return None
    try:
        return resolve(read_file(path))
    except DasdError as error:
        checked.problems.append(str(error))
        return None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def manifest_problems(manifest: dict[str, Any]) -> list[str]:
    """What a manifest lacks of status, command, hashes and versions: sentences."""
    found = []
    if manifest.get("status") != "finished":
        found.append(f"{MANIFEST_FILE}: the run is {manifest.get('status', 'unfinished')}; repeat its command.")
    if not str(manifest.get("command", "")).strip():
        found.append(f"{MANIFEST_FILE}: 'command' is missing.")
    for where, value in _hashes(manifest):
        if not isinstance(value, str) or not SHA256.fullmatch(value):
            found.append(f"{MANIFEST_FILE}: '{where}' is not a SHA-256.")
    made = manifest.get("environment") or {}
    found += [
        f"{MANIFEST_FILE}: 'environment.{name}' is missing." for name in ("dasd_bench", "python") if not made.get(name)
    ]
    packages = made.get("packages")
    wanted = ("torch", "transformers", "lm_eval", "peft")
    missing = [name for name in wanted if not isinstance(packages, dict) or not packages.get(name)]
    if missing:
        found.append(f"{MANIFEST_FILE}: 'environment.packages' lacks the version of {', '.join(missing)}.")
    return found


def _hashes(manifest: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in ("model", "chat_template"):
        yield f"{name}.sha256", (manifest.get(name) or {}).get("sha256")
    for list_name, fields in (
        ("tasks", ("plugin_sha256", "train_sha256", "test_sha256")),
        ("arms", ("plugin_sha256",)),
        ("adapters", ("sha256",)),
    ):
        for number, one in enumerate(manifest.get(list_name) or ()):
            for field_name in fields:
                yield f"{list_name}[{number}].{field_name}", one.get(field_name) if isinstance(one, dict) else None


def disagreements(results: RunResults, manifest: dict[str, Any]) -> list[str]:
    """Where results and manifest are not of the same run: sentences."""
    model, template = manifest.get("model") or {}, manifest.get("chat_template") or {}
    rows = [one.get("label") for name in ("arms", "adapters") for one in manifest.get(name) or ()]
    pairs: list[tuple[str, Any, Any]] = [
        ("model", results.model, model.get("name")),
        ("hash of the weights", results.conditions.get("model weights"), model.get("sha256")),
        ("hash of the chat template", results.conditions.get("chat template"), template.get("sha256")),
        ("rows", sorted(arm.label for arm in results.arms), sorted(map(str, rows))),
        (
            "tasks",
            sorted(t.name for t in results.tasks),
            sorted(str(t.get("name")) for t in manifest.get("tasks") or ()),
        ),
        ("seeds", results.seeds, manifest.get("seeds")),
    ]
    return [
        f"{RESULTS_FILE} and {MANIFEST_FILE} differ in the {name}: {ours} and {theirs}."
        for name, ours, theirs in pairs
        if ours != theirs
    ]


def _check_tables(checked: Checked) -> None:
    results = checked.results
    assert results is not None
    try:
        expected = entry_tables(results)
    except DasdError as error:
        checked.problems.append(str(error))
        return
    if _text(checked.entry.path / TABLES_FILE).split() != expected.split():
        checked.problems.append(
            f"{TABLES_FILE} is not what {RESULTS_FILE} gives: write it with 'dasd-bench check-results --update-tables' "
            f"or 'dasd-bench table {checked.entry.path} --format md --notes -o {checked.entry.path / TABLES_FILE}'."
        )


def _check_other(checked: Checked) -> None:
    """A sweep, probe or ablation: its own file is whole."""
    entry = checked.entry
    name = next(name for name, kind in KINDS.items() if kind == entry.kind)
    try:
        if entry.kind == "probe":
            load_probe(entry.path)
            return
        value = read_object(entry.path / name)
    except DasdError as error:
        checked.problems.append(str(error))
        return
    except FileNotFoundError as error:
        checked.problems.append(f"{Path(str(error.filename)).name} is missing.")
        return
    lacking = [field_name for field_name in NEEDED[entry.kind] if not value.get(field_name)]
    if lacking:
        checked.problems.append(f"{name} lacks {', '.join(lacking)}.")
    if value.get("status", "finished") != "finished":
        checked.problems.append(f"{name}: the {entry.kind} is {value['status']}; repeat its command.")


def comparable_lines(one: Checked, others: Sequence[Checked]) -> list[str]:
    """One line per other entry with a task in common: comparable on which tasks, and why not on the rest."""
    if one.results is None:
        return ["Comparable with no other entry: it has no item-level results."] if one.entry.kind == "tables" else []
    lines = []
    for other in others:
        if other.results is None:
            continue
        same, differing = [], []
        theirs = {task.name: task for task in other.results.tasks}
        for task in one.results.tasks:
            if task.name not in theirs:
                continue
            reasons = conditions_that_differ(
                task_conditions(one.results, task), task_conditions(other.results, theirs[task.name])
            )
            if reasons:
                differing.append(f"{task.name} ({'; '.join(reasons)})")
            else:
                same.append(task.name)
        if same:
            lines.append(f"Comparable with {other.entry.name} on {', '.join(same)}.")
        if differing:
            lines.append(f"Not comparable with {other.entry.name} on {', '.join(differing)}.")
    return lines
