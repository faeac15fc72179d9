"""Finds method and task plugins: shipped folders, entry points and ``--plugins`` folders.

Rules: a name that two plugins claim is an error; a broken third-party plugin is a listed warning with its
traceback on demand, never a crash of the rest; a broken shipped plugin is an error. Where a plugin came from is
kept and goes into the manifest.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from dasd_bench.errors import PluginError, UsageError, unknown_name
from dasd_bench.methods.base import BASE, Method, validate_method
from dasd_bench.tasks.base import Task, validate_task

T = TypeVar("T")

METHODS_GROUP = "dasd_bench.methods"
TASKS_GROUP = "dasd_bench.tasks"


@dataclass(frozen=True, slots=True)
class Plugin(Generic[T]):
    """A plugin class or instance with where it came from and the hash of its source file."""

    name: str
    item: T
    origin: str
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A third-party plugin that could not be loaded."""

    origin: str
    error: str
    traceback: str


@dataclass(slots=True)
class Registry:
    """Every plugin found, by name, and the broken ones."""

    methods: dict[str, Plugin[type[Method]]] = field(default_factory=dict)
    tasks: dict[str, Plugin[Task]] = field(default_factory=dict)
    broken: list[BrokenPlugin] = field(default_factory=list)
    variants: dict[str, Plugin[Task]] = field(default_factory=dict)
    """Tasks asked for with another number of shots, by their full name (``arc_challenge@25``)."""

    def method(self, name: str) -> Plugin[type[Method]]:
        """The method of that name; :class:`~dasd_bench.errors.UsageError` with a suggestion otherwise."""
        if name not in self.methods:
            raise unknown_name("method", name, self.methods)
        return self.methods[name]

    def task(self, name: str) -> Plugin[Task]:
        """The task of that name; :class:`~dasd_bench.errors.UsageError` with a suggestion otherwise.

        ``NAME@K`` is the task with K shots, under that name.
        """
        base, at, shots = name.partition("@")
        if base not in self.tasks:
            raise unknown_name("task", base, self.tasks)
        if not at:
            return self.tasks[base]
        if not shots.isdecimal():
            raise UsageError(f"Task '{name}': write the number of shots after the @, for instance {base}@5.")
        if name not in self.variants:
            self.variants[name] = _with_shots(self.tasks[base], name, int(shots))
        return self.variants[name]

    def _add(self, module: ModuleType, path: Path, origin: str) -> None:
        classes = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__]
        methods = [c for c in classes if issubclass(c, Method)]
        tasks = [c for c in classes if issubclass(c, Task) and c.name]
        if not methods and not tasks:
            raise PluginError(f"{path}: no class derives from dasd_bench.api.Method or dasd_bench.api.Task.")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        for method in methods:
            validate_method(method, str(path))
            if method.name == BASE:
                raise PluginError(f"{path}: '{BASE}' is the untrained model's name; give the method another.")
            _claim(self.methods, Plugin(method.name, method, origin, path, digest), "method")
        for task in tasks:
            validate_task(task, str(path))
            instance = task()
            instance.folder = path.parent
            _claim(self.tasks, Plugin(task.name, instance, origin, path, _folder_hash(path.parent)), "task")


def _with_shots(plugin: Plugin[Task], name: str, shots: int) -> Plugin[Task]:
    task = copy.copy(plugin.item)
    task.name = name  # type: ignore[misc]  # the variant is an instance of the same class under another name
    task.num_fewshot = shots  # type: ignore[misc]
    return replace(plugin, name=name, item=task)


def _claim(table: dict[str, Plugin[T]], plugin: Plugin[T], kind: str) -> None:
    if plugin.name in table:
        other = table[plugin.name]
        raise NameCollision(
            f"The {kind} name '{plugin.name}' is claimed by both {other.path} and {plugin.path}; rename one."
        )
    table[plugin.name] = plugin


class NameCollision(PluginError):  # noqa: N818  (it is the error's plain name)
    """Two plugins claim one name: always an error, wherever they came from."""


def discover(plugin_dirs: tuple[Path, ...] = ()) -> Registry:
    """Loads all plugins. ``plugin_dirs`` are user folders: ``*.py`` files are methods, ``*/task.py`` are tasks."""
    registry = Registry()
    for path in shipped_files():
        registry._add(_import_file(path), path, "shipped")
    for folder in plugin_dirs:
        if not folder.is_dir():
            raise PluginError(f"The plugin folder {folder} does not exist; give --plugins an existing folder.")
        for path in _plugin_files(folder):
            _tolerant(registry, f"--plugins {folder.name}/{path.relative_to(folder)}", path)
    for group in (METHODS_GROUP, TASKS_GROUP):
        for entry in entry_points(group=group):
            _tolerant(registry, _origin_of(entry), entry)
    return registry


def _tolerant(registry: Registry, origin: str, source: Path | EntryPoint) -> None:
    try:
        if isinstance(source, Path):
            module, path = _import_file(source), source
        else:
            module = _entry_module(source)
            path = Path(str(module.__file__))
        registry._add(module, path, origin)
    except NameCollision:
        raise
    except Exception as error:
        registry.broken.append(BrokenPlugin(origin, f"{type(error).__name__}: {error}", traceback.format_exc()))


def _entry_module(entry: EntryPoint) -> ModuleType:
    loaded = entry.load()
    if isinstance(loaded, ModuleType):
        return loaded
    return sys.modules[loaded.__module__]


def _origin_of(entry: EntryPoint) -> str:
    dist = entry.dist
    return f"{dist.name} {dist.version} ({entry.value})" if dist is not None else entry.value


def shipped_folder(kind: str) -> Path:
    """The shipped plugin folder ``methods``, ``tasks`` or ``benchmarks``: inside the wheel, or in the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "plugins" / kind
    return installed if installed.is_dir() else package.parent / kind


def shipped_files() -> Iterator[Path]:
    """The shipped plugin files in name order."""
    yield from sorted(p for p in shipped_folder("methods").glob("*.py") if not p.name.startswith("_"))
    yield from sorted(shipped_folder("tasks").glob("*/task.py"))


def _plugin_files(folder: Path) -> list[Path]:
    if (folder / "task.py").is_file():
        return [folder / "task.py"]
    files = sorted(p for p in folder.glob("*.py") if not p.name.startswith("_"))
    return files + sorted(folder.glob("*/task.py"))


def _import_file(path: Path) -> ModuleType:
    """Imports a plugin file under a private module name made of its path, so that equal file names do not clash."""
    unique = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = f"_dasd_bench_plugin_{path.stem}_{unique}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _folder_hash(folder: Path) -> str:
    """Hash of a task folder's own files (code and YAML): a task changes when any of them does."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in (".py", ".yaml")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
