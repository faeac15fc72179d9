"""The contract of a method plugin: a frozen dataclass of options and up to three functions.

A plugin file defines one class or more that derive from :class:`Method`; nothing is registered by hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from dasd_bench.errors import PluginError, UsageError
from dasd_bench.methods.plugin_calls import call, file_of
from dasd_bench.options import check_range, convert_options, option, option_rules
from dasd_bench.types import Bools, Example, Floats, ScoredTarget, Target, kept

if TYPE_CHECKING:
    from torch import Tensor

    from dasd_bench.methods.context import LiveTokens, MethodContext, RunFacts

Denominator = Literal["kept", "all"]

BASE = "base"
"""The untrained model's name: ``--method base`` evaluates it alone, and no method may have it."""


@dataclasses.dataclass(frozen=True)
class Method:
    """Base class of method plugins. The defaults of the three functions are plain SFT.

    ``trains`` says that ``make_targets`` trains models of its own (``context.train``), so that its targets depend on
    the training settings and the seed.

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
    trains: ClassVar[bool] = False
    card: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def stochastic(self) -> bool:
        """True where ``make_targets`` draws random numbers, so that every seed makes its own targets."""
        return False

    def lacking(self, facts: RunFacts) -> str:
        """What this run cannot give and the method needs, as a sentence with what to do; empty where nothing.

        Asked before any work is done, with the data not loaded yet.
        """
        return ""

    def files(self) -> Sequence[str]:
        """Files that ``make_targets`` reads: their bytes are part of the targets' key, and a missing one is refused."""
        return ()

    def other_tasks(self) -> Sequence[str]:
        """Tasks whose train rows ``make_targets`` reads by ``context.task_examples``; they are part of the key too."""
        return ()

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        """The targets, in the examples' order: one per example, several, or none. Default: the reference answer."""
        return [context.reference_target(example) for example in examples]

    def select(self, scored: ScoredTarget) -> Floats:
        """Static weights float32 [T] of one target. Default: ones."""
        return np.ones(len(scored.target.token_ids), dtype=np.float32)

    def keeps(self, target: Target) -> Bools:
        """Bool [T]: tokens the method never masks; by its ``keep`` option where it has one, else the end token."""
        return kept(target, str(getattr(self, "keep", "end")))

    def online_weights(self, live: LiveTokens) -> Tensor:
        """Weights float32 [N] on the live model's probabilities (no gradient); used where ``online`` is True."""
        raise PluginError(f"Method '{self.name}' sets online = True but does not define online_weights.")


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
    for attribute, kind in (("name", str), ("summary", str), ("paper", str), ("card", Mapping), ("online", bool)):
        if not isinstance(getattr(method, attribute), kind):
            wrong = type(getattr(method, attribute)).__name__
            raise PluginError(f"{where}: {method.__name__}.{attribute} must be a {kind.__name__}, not a {wrong}.")
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
        if not isinstance(f.default, (bool, int, float, str)):
            raise PluginError(f"{where}: option '{f.name}' of '{method.name}' must be a bool, int, float or str.")
    overrides_online = method.online_weights is not Method.online_weights
    if method.online != overrides_online:
        raise PluginError(
            f"{where}: method '{method.name}' must set online = True and define online_weights, or neither."
        )
    build_method(method, {})


def build_method(method: type[Method], values: dict[str, Any]) -> Method:
    """An instance with ``values`` (strings are converted to the option's type), range-checked.

    Raises :class:`UsageError` for an unknown option, a value out of range, or values that do not go together: what the
    method's ``__post_init__`` raises as :class:`ValueError`.
    """
    values = convert_options(method, values, f"option of method {method.name}", f"{method.name}.")
    built = call("the options", file_of(method), _construct, method, values)
    for name, rule in option_rules(method).items():
        check_range(getattr(built, name), rule, f"{method.name}.{name}")
    return built


def _construct(method: type[Method], values: dict[str, Any]) -> Method:
    try:
        return method(**values)
    except ValueError as error:
        raise UsageError(f"{method.name}: {error}") from error
