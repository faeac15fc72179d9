"""JSON from outside: what Python's parser takes and later code cannot use is refused here, in plain words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from dasd_bench.errors import DasdError, StoreError
from dasd_bench.files.text import read_text

DEPTH = 200
"""Levels of lists and objects inside one another that are read: far more than any data has, far less than breaks."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse(text: str) -> Any:
    """The value of a JSON text.

    Raises :class:`ValueError` with a readable reason for text that is not JSON, for lists and objects nested deeper
    than :data:`DEPTH`, for integers of thousands of digits, and for half of a surrogate pair, which no file can hold.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise ValueError(f"{error.msg} at {where}") from None
    except RecursionError:
        raise ValueError(f"nested deeper than {DEPTH} levels") from None
    except ValueError as error:
        if "digits" in str(error):
            raise ValueError("it has an integer of more than 4,300 digits") from None
        raise
    if text.count("[") + text.count("{") > DEPTH and _deeper(value, DEPTH):
        raise ValueError(f"nested deeper than {DEPTH} levels")
    if _SURROGATE.search(text) is not None:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = str(error.object)[error.start]
            raise ValueError(f"'\\u{ord(half):04x}' is half of a surrogate pair, not a character") from None
    return value


def read_json(path: Path, error: type[DasdError] = StoreError, hint: str = "") -> Any:
    """The value in a JSON file; raises ``error`` naming the file, with ``hint`` on what to do.

    A missing file raises :class:`FileNotFoundError`.
    """
    text = read_text(path, error)
    try:
        return parse(text)
    except ValueError as fault:
        raise error(f"{path}: not valid JSON ({fault}){f'; {hint}' if hint else ''}.") from None


def read_object(path: Path, error: type[DasdError] = StoreError, hint: str = "") -> dict[str, Any]:
    """The object in a JSON file; raises as :func:`read_json` does, also for any other value."""
    value = read_json(path, error, hint)
    if not isinstance(value, dict):
        raise error(f"{path} should hold a JSON object{f'; {hint}' if hint else ''}.")
    return value


def _deeper(value: Any, limit: int) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(limit):
        inside = (inner for item in level for inner in (item.values() if isinstance(item, dict) else item))
        level = [inner for inner in inside if isinstance(inner, (dict, list))]
        if not level:
            return False
    return True
