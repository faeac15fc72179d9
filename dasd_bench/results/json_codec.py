"""Dataclasses to JSON and back, checked field by field, so that a damaged file is named and not guessed at."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from typing import Any, TypeVar, Union

T = TypeVar("T")


class DecodeError(ValueError):
    """A JSON value that does not fit its field; the message names the field's path."""


def encode(value: Any) -> Any:
    """``value`` as plain JSON types. A float that is NaN or infinite becomes null, which strict readers accept."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dumps(value: Any) -> str:
    """``value`` as JSON text with one trailing newline; the same value gives the same bytes."""
    return json.dumps(encode(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def decode(kind: type[T], value: Any, path: str = "") -> T:
    """``value`` (plain JSON types) as the dataclass ``kind``.

    A missing field takes its default; an unknown field is left out, so that a later release may add fields within
    one schema version. Null stands for NaN where a float is required. Raises :class:`DecodeError` naming the field.
    """
    if not isinstance(value, dict):
        raise DecodeError(f"{path or 'the file'} should be an object, not {_kind_of(value)}")
    hints = typing.get_type_hints(kind)
    given: dict[str, Any] = {}
    for f in dataclasses.fields(kind):  # type: ignore[arg-type]
        where = f"{path}.{f.name}" if path else f.name
        if f.name in value:
            given[f.name] = _field(hints[f.name], value[f.name], where)
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise DecodeError(f"{where} is missing")
    return kind(**given)


def _field(hint: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
        return _field(inner, value, path)
    if origin is list:
        if not isinstance(value, list):
            raise DecodeError(f"{path} should be a list, not {_kind_of(value)}")
        (inner,) = typing.get_args(hint)
        return [_field(inner, item, f"{path}[{i}]") for i, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise DecodeError(f"{path} should be an object, not {_kind_of(value)}")
        _, inner = typing.get_args(hint)
        return {key: _field(inner, item, f"{path}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return decode(hint, value, path)  # type: ignore[arg-type]
    if hint is Any:
        return value
    return _scalar(hint, value, path)


def _scalar(hint: type, value: Any, path: str) -> Any:
    if hint is float:
        if value is None:
            return math.nan
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 10**300:
            return float(value)
    elif hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(value, hint):
        return value
    raise DecodeError(f"{path} should be {_NAMES[hint]}, not {_kind_of(value)}")


_NAMES = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}


def _kind_of(value: Any) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list"}
    return "null" if value is None else kinds.get(type(value), "an object")
