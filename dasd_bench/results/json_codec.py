"""Dataclasses to JSON and back, checked by msgspec, so that damage is named and not guessed at."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, TypeVar

import msgspec

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


def decode(kind: type[T], value: Any) -> T:
    """``value`` (plain JSON types) as the dataclass ``kind``.

    A missing field takes its default; an unknown field is left out, so that a later release may add fields within
    one schema version. Raises :class:`DecodeError` naming the field.
    """
    _check_integers(value, "")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        what, _, path = str(error).replace("`", "").partition(" - at $")
        what = what[:1].lower() + what[1:]
        raise DecodeError(f"{path.lstrip('.')}: {what}" if path else what) from None


def _check_integers(value: Any, path: str) -> None:
    """No count has more than 63 bits, and numpy and floats cannot take one that has."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_integers(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_integers(item, f"{path}[{index}]")
    elif isinstance(value, int) and abs(value) >= 1 << 63:
        raise DecodeError(f"{path.lstrip('.')}: the integer is out of range")
