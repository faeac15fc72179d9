"""The contract of a method plugin: a frozen dataclass of options and up to three functions.

A plugin file defines one class or more that derive from :class:`Method`; nothing is registered by hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from dasd_bench.errors import PluginError, UsageError, unknown_name
from dasd_bench.types import Bools, Example, Floats, ScoredTarget, Target, kept

if TYPE_CHECKING:
    from torch import Tensor

    from dasd_bench.methods.context import Lab, LiveTokens

Denominator = Literal["kept", "all"]

BASE = "base"
"""The untrained model's name: ``--method base`` evaluates it alone, and no method may have it."""


@dataclasses.dataclass(frozen=True, slots=True)
class OptionRule:
    """The documentation and the allowed values of one option."""

    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


def option(
    default: Any,
    *,
    help: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """A dataclass field for an option: bool, int, float or str, with help text and its allowed range."""
    rule = OptionRule(help, minimum, maximum, tuple(choices))
    return dataclasses.field(default=default, metadata={"option": rule})


@dataclasses.dataclass(frozen=True)
class Method:
    """Base class of method plugins. The defaults of the three functions are plain SFT.

    ``denominator`` says what the loss is divided by: ``kept`` (sum of non-zero static weights' tokens) or
    ``all`` target tokens of the global batch. ``needs_entropy`` asks the trainer for the live entropy. ``card`` holds
    the training options of the authors, by name, for runs with ``--budget card``.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    denominator: ClassVar[Denominator] = "kept"
    online: ClassVar[bool] = False
    needs_entropy: ClassVar[bool] = False
    card: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def stochastic(self) -> bool:
        """True where ``make_targets`` draws random numbers, so that every seed makes its own targets."""
        return False

    def make_targets(self, examples: Sequence[Example], lab: Lab) -> list[Target]:
        """One target per example, in order. Default: the reference answer."""
        return [lab.reference_target(example) for example in examples]

    def select(self, scored: ScoredTarget) -> Floats:
        """Static weights float32 [T] of one target. Default: ones."""
        return np.ones(len(scored.target.token_ids), dtype=np.float32)

    def keeps(self, target: Target) -> Bools:
        """Bool [T]: tokens the method never masks; by its ``keep`` option where it has one, else the end token."""
        return kept(target, str(getattr(self, "keep", "end")))

    def online_weights(self, live: LiveTokens) -> Tensor:
        """Weights float32 [N] on the live model's probabilities (no gradient); used where ``online`` is True."""
        raise PluginError(f"Method '{self.name}' sets online = True but does not define online_weights.")

    def describe(self) -> dict[str, Any]:
        """The options and their values, for the manifest and for cache keys."""
        return dataclasses.asdict(self)


def option_rules(method: type[Method]) -> dict[str, OptionRule]:
    """The documented options of a method class, by name."""
    return {f.name: f.metadata["option"] for f in dataclasses.fields(method) if "option" in f.metadata}


KEEP_CHOICES = ("none", "end", "end+format")


def keep_option(default: str = "end") -> Any:
    """The option every selector has: which tokens it may neither replace nor mask."""
    return option(
        default,
        help="Tokens never replaced nor masked: none, end (the end-of-turn token), end+format (answer markers too).",
        choices=KEEP_CHOICES,
    )


def validate_method(method: type[Method], where: str) -> None:
    """Checks a plugin class when it is registered; raises :class:`PluginError` naming the file."""
    if not method.name or not method.name.replace("-", "").replace("_", "").isalnum():
        raise PluginError(f"{where}: class {method.__name__} needs a name of letters, digits and dashes.")
    if not method.summary:
        raise PluginError(f"{where}: method '{method.name}' needs a one-line summary.")
    if method.denominator not in ("kept", "all"):
        raise PluginError(f"{where}: method '{method.name}' has denominator '{method.denominator}'; use kept or all.")
    params = getattr(method, "__dataclass_params__", None)
    if params is None or not params.frozen or "__dataclass_params__" not in method.__dict__:
        raise PluginError(f"{where}: method '{method.name}' must be decorated with @dataclass(frozen=True).")
    for f in dataclasses.fields(method):
        if "option" not in f.metadata:
            raise PluginError(f"{where}: option '{f.name}' of '{method.name}' has no help text: use option(...).")
    overrides_online = method.online_weights is not Method.online_weights
    if method.online != overrides_online:
        raise PluginError(
            f"{where}: method '{method.name}' must set online = True and define online_weights, or neither."
        )
    build_method(method, {})


def build_method(method: type[Method], values: dict[str, Any]) -> Method:
    """An instance with ``values`` (strings are converted to the option's type), range-checked.

    Raises :class:`UsageError` for an unknown option or a value out of range.
    """
    rules = option_rules(method)
    fields = {f.name: f for f in dataclasses.fields(method)}
    converted: dict[str, Any] = {}
    for name, value in values.items():
        if name not in rules:
            raise unknown_name(f"option of method {method.name}", name, rules)
        converted[name] = convert(value, type(fields[name].default), f"{method.name}.{name}")
    built = method(**converted)
    for name, rule in rules.items():
        check_range(getattr(built, name), rule, f"{method.name}.{name}")
    return built


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
            low = "-inf" if rule.minimum is None else f"{rule.minimum:g}"
            high = "inf" if rule.maximum is None else f"{rule.maximum:g}"
            raise UsageError(f"{label}={value} is out of range; use a value from {low} to {high}.")
