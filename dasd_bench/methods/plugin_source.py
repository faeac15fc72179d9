"""Which files a plugin computes with, their hash, and importing them as they are now.

A plugin's source is its own file and, of its folder, the modules it imports and the files it names in a string, and so
on from each of these modules; and the modules of :data:`SHARED` that it uses through ``dasd_bench.api``. Nothing else
outside the folder counts: an installed package that a plugin imports does not.

Plugin folders are packages under private names, so that equal file names in two folders do not clash. Code is compiled
from the text each time: a cached ``.pyc`` is valid by size and whole seconds, which an edit can leave unchanged.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

PREFIX = "_dasd_bench_plugins_"

SHARED = ("acceptance", "divergences", "edits", "gate_controls", "gate_rules", "gates", "samples", "target_rows")
"""Modules and packages beside this one that decide what is computed for a plugin that uses them."""


def source_hash(path: Path) -> str:
    """sha256 (hex) of a plugin's source: that file's own where it uses no other file."""
    files = source_files(path)
    shared = shared_modules(files)
    if files == [path] and not shared:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for name, file in [(file.relative_to(_root(path)).as_posix(), file) for file in files] + shared:
        digest.update(name.encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def source_files(path: Path) -> list[Path]:
    """The files a plugin computes with, its own ``path`` first, the others in order of their names."""
    root = _root(path)
    found = {path}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        for used in _used(file, root):
            if used not in found:
                found.add(used)
                if used.suffix == ".py":
                    waiting.append(used)
    return [path, *sorted(found - {path})]


def shared_modules(files: Sequence[Path]) -> list[tuple[str, Path]]:
    """The modules of :data:`SHARED` that plugin files use, by name, and those that these use in turn."""
    folder = Path(__file__).parent
    homes, modules, imports = _shared(folder)
    found: set[str] = set()
    for file in files:
        if file.suffix == ".py" and not file.is_relative_to(folder):
            found |= _taken(file, homes)
    waiting = list(found)
    while waiting:
        new = imports[waiting.pop()] - found
        found |= new
        waiting += new
    return [
        (f"dasd_bench/methods/{path.relative_to(folder).as_posix()}", path)
        for name in sorted(found)
        for path in modules[name]
    ]


@cache
def _shared(folder: Path) -> tuple[Mapping[str, str], Mapping[str, Sequence[Path]], Mapping[str, frozenset[str]]]:
    """The shared module behind each name of ``dasd_bench.api``; each one's files, and the others that it imports."""
    modules = {name: sorted((folder / name).glob("*.py")) or [folder / f"{name}.py"] for name in SHARED}
    homes = {name: home for home, names in _imports(folder.parent / "api.py") for name in names if home in modules}
    imports = {
        name: frozenset(home for path in paths for home, _ in _imports(path)) & modules.keys()
        for name, paths in modules.items()
    }
    return homes, modules, imports


def _imports(path: Path) -> Iterator[tuple[str, list[str]]]:
    """What a module imports from modules of ``dasd_bench.methods``: the name of each, and the names as bound there."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("dasd_bench.methods."):
            yield node.module.split(".")[2], [alias.asname or alias.name for alias in node.names]


def _taken(file: Path, homes: Mapping[str, str]) -> set[str]:
    """The shared modules whose names a file imports from ``dasd_bench.api``, or all where it imports that whole."""
    named = _mentioned(file.read_bytes())
    whole = any(name.startswith("dasd_bench") for name in named.imports)
    found: set[str] = set()
    for level, module, names in named.imported_from:
        if module == "dasd_bench.api" and not level:
            found |= {homes[name] for name in names if name in homes}
            whole = whole or "*" in names
        whole = whole or (module == "dasd_bench" and "api" in names)
    return set(homes.values()) if whole else found


@dataclass(frozen=True)
class _Mentioned:
    """What the text of a module imports, and the short strings in it."""

    imports: tuple[str, ...] = ()
    imported_from: tuple[tuple[int, str, tuple[str, ...]], ...] = ()
    """Level (number of leading dots), module and names of each ``from ... import``."""
    strings: tuple[str, ...] = ()


@cache
def _mentioned(text: bytes) -> _Mentioned:
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):
        return _Mentioned()  # importing it will say so
    strings = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return _Mentioned(
        tuple(alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names),
        tuple(
            (node.level, node.module or "", tuple(alias.name for alias in node.names))
            for node in nodes
            if isinstance(node, ast.ImportFrom)
        ),
        tuple(dict.fromkeys(string for string in strings if len(string) < 200)),
    )


def _root(path: Path) -> Path:
    """The folder that a plugin may take files from: its own, or the topmost package it is part of."""
    folder = path.parent
    while (folder / "__init__.py").is_file() and (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _used(file: Path, root: Path) -> Iterator[Path]:
    """Files under ``root`` that the module ``file`` imports or names."""
    named = _mentioned(file.read_bytes())
    for name in named.imports:
        yield from _modules((root, root.parent), name, root)
    for level, module, names in named.imported_from:
        bases: Sequence[Path] = (root, root.parent)
        if level:
            bases = (file.parents[level - 1],) if level <= len(file.parents) else ()
        for name in names:
            yield from _modules(bases, f"{module}.{name}".strip("."), root)
    for string in named.strings:
        yield from _named(string, (file.parent, root), root)


def _modules(bases: Sequence[Path], dotted: str, root: Path) -> Iterator[Path]:
    """The files of a dotted name: each package's ``__init__.py`` on the way, and the module."""
    for base in bases:
        for part in dotted.split("."):
            base = base / part
            for file in (base / "__init__.py", base.with_name(f"{base.name}.py")):
                if file.is_file() and file.is_relative_to(root):
                    yield file


def _named(text: str, bases: Sequence[Path], root: Path) -> Iterator[Path]:
    """The file or the files of the folder called ``text``; also the module, which may be imported by its name."""
    if not text.strip("./ ") or "\0" in text or "\n" in text:
        return
    for base in bases:
        for named in (base / text, base / f"{text}.py"):
            if not named.exists():  # asked first: most strings name nothing, and to resolve a path is slow
                continue
            if not named.resolve().is_relative_to(root.resolve()) or not named.is_relative_to(root):
                continue
            if named.is_file():
                yield named
            elif named.is_dir() and named.resolve() != root.resolve():
                yield from (p for p in named.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def fresh_package(folder: Path) -> str:
    """The private package of a plugin folder, with nothing imported yet: earlier imports of it are forgotten."""
    name = _package_name(folder)
    for known in [known for known in sys.modules if known == name or known.startswith(f"{name}.")]:
        del sys.modules[known]
    return _package(folder)


def import_sibling(folder: Path, name: str) -> ModuleType:
    """The module ``<folder>/<name>.py`` of a plugin folder, imported once."""
    return importlib.import_module(f"{_package(folder)}.{name}")


def _package_name(folder: Path) -> str:
    return PREFIX + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]


def _package(folder: Path) -> str:
    name = _package_name(folder)
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    return name


def import_plugin(path: Path, package: str) -> ModuleType:
    """The plugin file as a module of its folder's package; imported already where a sibling needed it."""
    stem = path.stem if path.stem.isidentifier() else f"_{hashlib.sha256(path.name.encode()).hexdigest()[:12]}"
    name = f"{package}.{stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path, loader=_SourceLoader(name, str(path)))
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


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """Runs a module of a plugin folder from its text; ``import helper`` there finds the folder's own first."""

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        package = ".".join(module.__name__.split(".")[:1])
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _importer(package)}
        super().exec_module(module)


def _importer(package: str) -> Any:
    """``__import__`` for the modules of one plugin folder."""

    def import_sibling_first(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        own = f"{package}.{name.partition('.')[0]}"
        outside = level or own.rpartition(".")[2] in sys.stdlib_module_names
        if outside or (globals or {}).get("__name__") == own or importlib.util.find_spec(own) is None:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        found = builtins.__import__(f"{package}.{name}", globals, locals, fromlist or (), 0)
        return found if fromlist else sys.modules[own]

    return import_sibling_first


class _SiblingFinder(importlib.abc.MetaPathFinder):
    """Finds the modules of plugin packages, for :class:`_SourceLoader`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(PREFIX) or path is None:
            return None
        for folder in path:
            plain = Path(folder) / fullname.rpartition(".")[2]
            inside = plain / "__init__.py"
            file = inside if inside.is_file() else plain.with_name(f"{plain.name}.py")
            if file.is_file():
                return importlib.util.spec_from_file_location(
                    fullname,
                    file,
                    loader=_SourceLoader(fullname, str(file)),
                    submodule_search_locations=[str(plain)] if file == inside else None,
                )
        return None


sys.meta_path.insert(0, _SiblingFinder())
