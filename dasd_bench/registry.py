"""Finds method and task plugins: shipped folders, entry points and ``--plugins`` folders.

Rules: a name that two plugins claim is an error; a broken third-party plugin is a listed warning with its
traceback on demand, never a crash of the rest; a broken shipped plugin is an error. Where a plugin came from is
kept and goes into the manifest.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from dasd_bench.errors import DasdError, PluginError, UsageError, unknown_name
from dasd_bench.files.shipped import METHODS_GROUP, TASKS_GROUP, shipped_files
from dasd_bench.methods.base import BASE, Method, validate_method
from dasd_bench.methods.plugin_calls import call
from dasd_bench.methods.plugin_source import fresh_package, import_plugin, source_files, source_hash
from dasd_bench.tasks.base import Task, validate_task
from dasd_bench.tasks.train_file import TrainFile, file_task_name

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plugin(Generic[T]):
    """A plugin class or instance with where it came from and the hash of its source (a task's: of its folder)."""

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
    train_files: list[str] = field(default_factory=list)
    """The names of the tasks that stand for files of training rows (``--train-file``)."""

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

    def add_train_file(self, path: Path) -> None:
        """Adds the task that stands for a file of training rows."""
        name = file_task_name(path, list(self.tasks))
        form = Path(str(inspect.getsourcefile(TrainFile)))
        self.tasks[name] = Plugin(name, TrainFile(path, name), "--train-file", path, source_hash(form))
        self.train_files.append(name)

    def _add(self, module: ModuleType, path: Path, origin: str) -> None:
        classes = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__]
        methods = [c for c in classes if issubclass(c, Method)]
        tasks = [c for c in classes if issubclass(c, Task) and c.name]
        if not methods and not tasks:
            raise _NoPluginError(f"{path}: no class derives from dasd_bench.api.Method or dasd_bench.api.Task.")
        for method in methods:
            validate_method(method, str(path))
            if method.name == BASE:
                raise PluginError(f"{path}: '{BASE}' is reserved for the untrained model; choose another method name.")
            _claim(self.methods, Plugin(method.name, method, origin, path, source_hash(path)), "method")
        for task in tasks:
            validate_task(task, str(path))
            instance = call(f"task '{task.name}'", path, task)
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


class _NoPluginError(PluginError):
    """A file without any plugin class: a mistake, unless another file of its folder imports it."""


def discover(plugin_dirs: tuple[Path, ...] = ()) -> Registry:
    """Loads all plugins. ``plugin_dirs`` are user folders: ``*.py`` files are methods, ``*/task.py`` are tasks."""
    registry = Registry()
    for folder, paths in _by_folder(shipped_files()):
        package = fresh_package(folder)
        for path in paths:
            module, _ = _load_file(path, package)
            call("the plugin", path, registry._add, module, path, "shipped")
    add_folders(registry, plugin_dirs)
    for group in (METHODS_GROUP, TASKS_GROUP):
        for entry in entry_points(group=group):
            _tolerant(registry, _origin_of(entry), partial(_load_entry, entry))
    return registry


def add_folders(registry: Registry, plugin_dirs: tuple[Path, ...]) -> None:
    """Adds the plugins of a user's folders."""
    for given in plugin_dirs:
        if not given.is_dir():
            raise PluginError(f"The plugin folder {given} does not exist; give --plugins an existing folder.")
        for folder, paths in _by_folder(_plugin_files(given)):
            _load_folder(registry, given, folder, paths)


def _by_folder(paths: Iterable[Path]) -> list[tuple[Path, list[Path]]]:
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    return list(folders.items())


def _load_folder(registry: Registry, given: Path, folder: Path, paths: Sequence[Path]) -> None:
    """The plugins of one folder; files that others of it import need not be plugins themselves."""
    package = fresh_package(folder)
    helpers = {helper for path in paths for helper in source_files(path)[1:]}
    for path in paths:
        origin = f"--plugins {given.name}/{path.relative_to(given)}"
        load = partial(_load_file, path, package)
        _tolerant(registry, origin, load, helper=path in helpers)


def _load_file(path: Path, package: str) -> tuple[ModuleType, Path]:
    return call("the plugin", path, import_plugin, path, package), path


def _load_entry(entry: EntryPoint) -> tuple[ModuleType, Path]:
    module = call(f"the plugin {entry.value}", Path(entry.module), _entry_module, entry)
    return module, Path(str(module.__file__))


def _tolerant(
    registry: Registry, origin: str, load: Callable[[], tuple[ModuleType, Path]], helper: bool = False
) -> None:
    try:
        module, path = load()
        call("the plugin", path, registry._add, module, path, origin)
    except NameCollision:
        raise
    except DasdError as error:
        if not (helper and isinstance(error, _NoPluginError)):
            registry.broken.append(BrokenPlugin(origin, str(error), traceback.format_exc()))


def _entry_module(entry: EntryPoint) -> ModuleType:
    loaded = entry.load()
    if isinstance(loaded, ModuleType):
        return loaded
    return sys.modules[loaded.__module__]


def _origin_of(entry: EntryPoint) -> str:
    dist = entry.dist
    return f"{dist.name} {dist.version} ({entry.value})" if dist is not None else entry.value


def _plugin_files(folder: Path) -> list[Path]:
    if (folder / "task.py").is_file():
        return [folder / "task.py"]
    files = sorted(p for p in folder.glob("*.py") if not p.name.startswith("_"))
    return files + sorted(folder.glob("*/task.py"))


def _folder_hash(folder: Path) -> str:
    """Hash of a task folder's own files (code and YAML): a task changes when any of them does."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in (".py", ".yaml")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
