"""Files that a run directory takes from the store or must hold, and the manifest's facts about the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from dasd_bench import __version__
from dasd_bench.results.directory import RunDirectory
from dasd_bench.results.schema import RunResults
from dasd_bench.store.atomic import disk_errors, remove

PACKAGES = (
    "accelerate",
    "datasets",
    "gguf",
    "lm_eval",
    "math-verify",
    "numpy",
    "peft",
    "safetensors",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)
"""Packages on whose versions results depend."""


def link_tree(source: Path, target: Path) -> None:
    """Puts a folder of the store in place of the one that is there; an interruption leaves the one or the other whole.

    Files are hard links, so that weights lie on the disk once; copies where the run directory is on another device.
    """
    partial, old = (target.with_name(f".{target.name}.{name}") for name in ("partial", "old"))
    with disk_errors(target):
        for leftover in (partial, old):
            remove(leftover)
        shutil.copytree(source, partial, copy_function=_link_or_copy)
        if os.path.lexists(target):
            target.rename(old)
        partial.rename(target)
        remove(old)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def missing_files(directory: RunDirectory, results: RunResults) -> list[Path]:
    """What a finished run with these results should hold and does not."""
    models = [directory.base]
    wanted = [directory.spec]
    for arm in results.arms:
        for one in arm.seeds:
            model = directory.arm(arm.directory, one.seed)
            models.append(model)
            for point in one.points:
                saved = model.point(point.name)
                wanted += [saved.adapter, *(saved.samples(task) for task in point.scores)]
            if arm.adapter is None:
                wanted += [model.targets, model.tokens, model.pieces, model.adapter, model.metrics]
    wanted += [model.samples(task.name) for model in models for task in results.tasks]
    return [path for path in wanted if not path.exists()]


def environment() -> dict[str, Any]:
    """Versions, platform and processor, for the manifest."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "dasd_bench": __version__,
        "git": git_state(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "packages": versions,
    }


def git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout the package runs from; None for an installed wheel."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    run = {"cwd": folder, "capture_output": True, "text": True}
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, **run).stdout.strip()  # type: ignore[call-overload]
        status = subprocess.run(["git", "status", "--porcelain"], check=True, **run).stdout.strip()  # type: ignore[call-overload]
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "dirty": bool(status)}


def command_line() -> str:
    """The command as typed, with the program's own name and not its place on this machine."""
    import shlex

    return shlex.join(["dasd-bench", *sys.argv[1:]])
