"""YAML from outside, as plain values: text keys named once, no value that holds itself, no dates."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from dasd_bench.errors import DasdError, UsageError
from dasd_bench.files.text import kind_of, read_text, shown

DEPTH = 20
"""Levels of lists and mappings inside one another."""
NODES = 100_000
"""Values of a file, aliases counted as often as they are used: a small file can stand for billions of them."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses a key that is there twice: the later one would win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name != "<<" and name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{name}' occurs twice", key.start_mark)
            seen.add(name)
        made: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return made


def parse_yaml(text: str, where: str, error: type[DasdError] = UsageError) -> Any:
    """The value of a YAML text: mappings with text keys, lists, text, numbers, true and false, null.

    Raises ``error`` with ``where`` and, where it is known, the line.
    """
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        line = f"{where}:{mark.line + 1}" if mark is not None else where
        problem = getattr(fault, "problem", None) or " ".join(str(fault).split())
        raise error(f"{line}: not valid YAML ({shown(problem, 160)}).") from None
    except RecursionError:
        raise error(f"{where}: nested deeper than {DEPTH} levels.") from None
    except (ValueError, TypeError, OverflowError, AttributeError) as fault:
        # A date that no calendar has, an integer of thousands of digits: PyYAML lets Python's own error through.
        raise error(f"{where}: not valid YAML ({shown(str(fault), 160)}).") from None
    _check(value, where, error, DEPTH, [NODES])
    return value


def read_yaml(path: Path, error: type[DasdError] = UsageError) -> Any:
    """The value of a YAML file; raises ``error`` naming file and line, :class:`FileNotFoundError` for a missing one."""
    return parse_yaml(read_text(path, error), str(path), error)


def read_mapping(path: Path, error: type[DasdError] = UsageError) -> dict[str, Any]:
    """The mapping in a YAML file, empty for an empty file; raises as :func:`read_yaml` does, also for anything else."""
    value = read_yaml(path, error)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise error(f"{path}: a mapping of names to values is expected, found {kind_of(value)}.")
    return value


def _check(value: Any, where: str, error: type[DasdError], depth: int, left: list[int]) -> None:
    left[0] -= 1
    if left[0] < 0:
        raise error(f"{where}: more than {NODES} values.")
    if isinstance(value, (dict, list)) and depth == 0:
        raise error(f"{where}: nested deeper than {DEPTH} levels, or a value that contains itself.")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise error(f"{where}: the key {shown(key)} is {kind_of(key)}; keys are names (quote it if it is one).")
            _check(key, where, error, depth, left)
            _check(inner, f"{where}: {shown(key)}" if depth == DEPTH else where, error, depth - 1, left)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, where, error, depth - 1, left)
    elif isinstance(value, str):
        if not value.isprintable() and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            raise error(f"{where}: the text '{shown(value)}' contains a character that is not allowed in a name.")
    elif not isinstance(value, (int, float, bool, type(None))):
        raise error(f"{where}: {shown(value)} is {kind_of(value)}; put it in quotes if it is text.")
