"""What the shell completes: names of methods, tasks, models, runs and presets. Imports no plugin and no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from dasd_bench.files.shipped import Named, named_methods, named_tasks
from dasd_bench.results.directory import MANIFEST_FILE, RESULTS_FILE, SPEC_FILE

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

SETTINGS = ("run", "training", "engine", "thinking", "warmup")
"""What ``show`` has lists of settings for: the run, and the sections of its specification."""

RUN_FILES = (SPEC_FILE, MANIFEST_FILE, RESULTS_FILE)


def method_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Methods, those in folders of ``--plugins`` included; after a comma the next of a list, after ``*`` the second."""
    found = [Named("base", "the untrained model"), *_with_plugins(context, named_methods)]
    return _last_of_list(incomplete, found, (",", "*"))


def task_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Tasks, those in folders of ``--plugins`` included; after a comma the next of a list."""
    return _last_of_list(incomplete, _with_plugins(context, named_tasks), (",",))


def model_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Model aliases; folders and files where the word looks like a path."""
    if incomplete.startswith((".", "/", "~")):
        return [CompletionItem(incomplete, type="file")]
    from dasd_bench.models.aliases import load_aliases

    return _items(incomplete, "", (Named(name, alias.kind) for name, alias in load_aliases().items()))


def run_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Runs in the folder of runs; paths where the word looks like one."""
    if "/" in incomplete or incomplete.startswith((".", "~")):
        return [CompletionItem(incomplete, type="dir")]
    folder = Path(context.params.get("runs_dir") or os.environ.get("DASD_RUNS_DIR") or "runs")
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    runs = [path for path in paths if any((path / name).is_file() for name in RUN_FILES)]
    return _items(incomplete, "", (Named(path.name, "") for path in runs)) or [CompletionItem(incomplete, type="dir")]


def preset_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Presets."""
    from dasd_bench.config.spec import PRESETS

    return _items(incomplete, "", (Named(name, "") for name in PRESETS))


def shown_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Everything that ``show`` takes: settings, methods, tasks, models, runs."""
    named = [Named(name, "settings") for name in SETTINGS]
    named += [*_with_plugins(context, named_methods), *_with_plugins(context, named_tasks)]
    others = [*model_names(context, parameter, incomplete), *run_names(context, parameter, incomplete)]
    return [*_items(incomplete, "", named), *others]


def file_paths(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell's own completion of files."""
    return [CompletionItem(incomplete, type="file")]


def folder_paths(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell's own completion of folders."""
    return [CompletionItem(incomplete, type="dir")]


OF_SETTINGS: dict[str, Complete] = {
    "methods": method_names,
    "tasks": task_names,
    "train_tasks": task_names,
    "retention": task_names,
    "model": model_names,
    "data_dir": folder_paths,
    "plugins": folder_paths,
    "adapters": folder_paths,
    "train_files": file_paths,
}
"""Completion of the options that are fields of a run's specification, by field."""


def _with_plugins(context: click.Context, named: Callable[[Path | None], list[Named]]) -> list[Named]:
    folders = [Path(folder).expanduser() for folder in context.params.get("plugins") or ()]
    return [one for folder in (None, *folders) for one in named(folder)]


def _last_of_list(incomplete: str, found: Iterable[Named], separators: tuple[str, ...]) -> list[CompletionItem]:
    """Completes what follows the last separator; names that the list has already are left out."""
    cut = max(incomplete.rfind(sign) for sign in separators) + 1
    before, word = incomplete[:cut], incomplete[cut:]
    there = set(before.replace("*", ",").split(","))
    return _items(word, before, (one for one in found if one.name not in there))


def _items(incomplete: str, before: str, found: Iterable[Named]) -> list[CompletionItem]:
    chosen = {one.name: one.summary for one in found if one.name.startswith(incomplete)}
    return [CompletionItem(before + name, help=summary or None) for name, summary in sorted(chosen.items())]
