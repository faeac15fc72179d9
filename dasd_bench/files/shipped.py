"""Where the shipped plugins are, and what they are called, read from their source without importing any of them.

Lists and shell completion answer in tenths of a second this way; a run imports the plugins through the registry.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

METHODS_GROUP = "dasd_bench.methods"
TASKS_GROUP = "dasd_bench.tasks"


@dataclass(frozen=True, slots=True)
class Named:
    """A plugin by its source: its name, its one-line summary, and whether a task says that it is stock lm-eval's."""

    name: str
    summary: str
    comparable: bool = False


def shipped_folder(kind: str) -> Path:
    """The shipped plugin folder ``methods``, ``tasks`` or ``benchmarks``: inside the wheel, or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "plugins" / kind
    return installed if installed.is_dir() else package.parent / kind


def method_files() -> list[Path]:
    """The files of the shipped methods in name order."""
    return sorted(path for path in shipped_folder("methods").glob("*.py") if not path.name.startswith("_"))


def task_files() -> list[Path]:
    """The files of the shipped tasks in name order."""
    return sorted(shipped_folder("tasks").glob("*/task.py"))


def shipped_files() -> Iterator[Path]:
    """The shipped plugin files in name order."""
    yield from method_files()
    yield from task_files()


def named_methods(folder: Path | None = None) -> list[Named]:
    """The shipped methods by name, or those in the files of a plugin folder."""
    return _named(method_files() if folder is None else sorted(folder.glob("*.py")))


def named_tasks(folder: Path | None = None) -> list[Named]:
    """The shipped tasks by name, or those in the folders of a plugin folder."""
    return _named(task_files() if folder is None else sorted(folder.glob("*/task.py")))


def others_installed() -> bool:
    """True where another package brings plugins, whose names only importing them tells."""
    return any(entry_points(group=group) for group in (METHODS_GROUP, TASKS_GROUP))


def _named(paths: list[Path]) -> list[Named]:
    found = [one for path in paths for one in _classes(path)]
    return sorted(found, key=lambda one: one.name)


def _classes(path: Path) -> Iterator[Named]:
    """The classes of a file that say ``name = "..."``; a file that is no Python has none."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return
    seen: dict[str, dict[str, object]] = {"StockChoiceTask": {"comparable": True}}
    for statement in tree.body:
        if not isinstance(statement, ast.ClassDef):
            continue
        said: dict[str, object] = {}
        for base in statement.bases:
            said |= {"comparable": seen.get(getattr(base, "id", ""), {}).get("comparable")}
        for inner in statement.body:
            targets = inner.targets if isinstance(inner, ast.Assign) else [getattr(inner, "target", None)]
            value = getattr(inner, "value", None)
            if isinstance(value, ast.Constant) and isinstance(targets[0], ast.Name):
                said[targets[0].id] = value.value
        seen[statement.name] = said
        if said.get("name"):
            yield Named(str(said["name"]), str(said.get("summary", "")), said.get("comparable") is True)
