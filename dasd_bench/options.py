"""Options as dataclass fields: help, range and choices beside the default, converted and checked in one place.

The specification, the training settings and every method's own options are made of them, and the command line's
options and their help are generated from them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from dasd_bench.errors import UsageError, unknown_name

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class OptionRule:
    """The documentation and the allowed values of one option.

    ``flags`` are names the command line takes beside the option's own; ``bare`` is the value of the option given
    without one.
    """

    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    bare: str | None = None

    @property
    def range(self) -> str:
        """The allowed values in words; empty where all are."""
        if self.choices:
            return ", ".join(self.choices)
        if self.minimum is None and self.maximum is None:
            return ""
        low = "-inf" if self.minimum is None else f"{self.minimum:g}"
        high = "inf" if self.maximum is None else f"{self.maximum:g}"
        return f"{low} to {high}"


def option(
    default: Any,
    *,
    help: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] = (),
    flags: Sequence[str] = (),
    bare: str | None = None,
) -> Any:
    """A dataclass field for an option: bool, int, float, str or a tuple of them, with help and its allowed range."""
    rule = OptionRule(help, minimum, maximum, tuple(choices), tuple(flags), bare)
    return dataclasses.field(default=default, metadata={"option": rule})


def option_rules(kind: type[Any]) -> dict[str, OptionRule]:
    """The documented options of a dataclass, by name."""
    return {f.name: f.metadata["option"] for f in dataclasses.fields(kind) if "option" in f.metadata}


def build_options(kind: type[T], values: Mapping[str, Any], what: str, prefix: str) -> T:
    """An instance of the dataclass ``kind`` with ``values``: see :func:`convert_options`."""
    return kind(**convert_options(kind, values, what, prefix))


def convert_options(kind: type[Any], values: Mapping[str, Any], what: str, prefix: str) -> dict[str, Any]:
    """``values`` of options of the dataclass ``kind``, text converted to the options' types, range-checked.

    ``what`` names the kind of option and ``prefix`` goes before a name in errors. Raises :class:`UsageError` for an
    unknown option or a value out of range.
    """
    rules = option_rules(kind)
    defaults = {f.name: f.default for f in dataclasses.fields(kind)}
    converted: dict[str, Any] = {}
    for name, value in values.items():
        if name not in rules:
            raise unknown_name(what, name, rules)
        converted[name] = convert(value, type(defaults[name]), f"{prefix}{name}")
        check_range(converted[name], rules[name], f"{prefix}{name}")
    return converted


def convert(value: Any, kind: type, label: str) -> Any:
    """``value`` as ``kind`` (bool, int, float, str or tuple of str); raises :class:`UsageError` naming ``label``."""
    if kind is bool and isinstance(value, str):
        lowered = value.lower()
        if lowered in ("true", "yes", "on", "1"):
            return True
        if lowered in ("false", "no", "off", "0"):
            return False
        raise UsageError(f"{label}={value} is not a yes or no; write true or false.")
    if kind is tuple:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return tuple(value)
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise UsageError(f"{label}={value} is not a yes or no; write true or false.")
    try:
        if kind is int and (isinstance(value, bool) or (isinstance(value, float) and not value.is_integer())):
            raise ValueError
        return kind(value)
    except (TypeError, ValueError):
        raise UsageError(f"{label}={value} is not a valid {kind.__name__}.") from None


def check_range(value: Any, rule: OptionRule, label: str) -> None:
    """Raises :class:`UsageError` where ``value`` is outside its rule."""
    if rule.choices and value not in rule.choices:
        raise unknown_name(f"value of {label}", str(value), rule.choices)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        too_low = rule.minimum is not None and not value >= rule.minimum
        too_high = rule.maximum is not None and not value <= rule.maximum
        if too_low or too_high:
            raise UsageError(f"{label}={value} is out of range; use a value from {rule.range}.")
