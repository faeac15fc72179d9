"""Options as dataclass fields: help, range and choices beside the default, converted and checked in one place.

The specification, the training settings and every method's own options are made of them, and the command line's
options and their help are generated from them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from dasd_bench.errors import UsageError, unknown_name
from dasd_bench.files.text import kind_of, shown

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
        if self.maximum is None:
            return f"at least {self.minimum:g}"
        return f"at most {self.maximum:g}" if self.minimum is None else f"{self.minimum:g} to {self.maximum:g}"


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
        if isinstance(value, bool) and ("on" if value else "off") in rules[name].choices:
            value = "on" if value else "off"  # YAML reads a bare on or off as true or false
        converted[name] = convert(value, type(defaults[name]), f"{prefix}{name}")
        check_range(converted[name], rules[name], f"{prefix}{name}")
    return converted


def convert(value: Any, kind: type, label: str) -> Any:
    """``value`` as ``kind`` (bool, int, float, str or tuple of str); raises :class:`UsageError` naming ``label``.

    Text is read as the command line gives it. Numbers stand for their text where text is asked for; nothing else does.
    """
    if kind is tuple:
        return _texts(value, label)
    if kind is str:
        return _text(value, label)
    if kind is bool:
        lowered = value.lower() if isinstance(value, str) else value
        if lowered in (True, "true", "yes", "on", "1") and not _is_number(lowered):
            return True
        if lowered in (False, "false", "no", "off", "0") and not _is_number(lowered):
            return False
        raise UsageError(f"{label}={shown(value)} is not a boolean; write true or false.")
    try:
        if isinstance(value, bool) or (kind is int and isinstance(value, float) and not value.is_integer()):
            raise ValueError
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{label}={shown(value)} is not a valid {kind.__name__}.") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: Any, label: str) -> str:
    if not isinstance(value, str) and not (_is_number(value) and abs(value) < 2**63):
        raise UsageError(f"{label} should be text, found {kind_of(value)}; omit it or put it in quotes.")
    text = shown(value) if not isinstance(value, str) else value
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise UsageError(f"{label}={shown(text)} contains a character that is not allowed in a name.")
    return text


def _texts(value: Any, label: str) -> tuple[str, ...]:
    if isinstance(value, str):
        parts = tuple(part.strip() for part in value.split(",") if part.strip())
    elif isinstance(value, (list, tuple)):
        parts = tuple(value)
    else:
        raise UsageError(f"{label} should be a list of names, found {kind_of(value)}.")
    return tuple(_text(part, label) for part in parts)


def check_range(value: Any, rule: OptionRule, label: str) -> None:
    """Raises :class:`UsageError` where ``value`` is outside its rule."""
    if rule.choices and value not in rule.choices:
        raise unknown_name(f"value of {label}", shown(value), rule.choices)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not abs(value) < 2**63 and value not in (rule.minimum, rule.maximum):
            raise UsageError(f"{label}={shown(value)} is out of range; use a finite number below 2^63.")
        too_low = rule.minimum is not None and not value >= rule.minimum
        too_high = rule.maximum is not None and not value <= rule.maximum
        if too_low or too_high:
            raise UsageError(f"{label}={shown(value)} is out of range; use a value from {rule.range}.")
