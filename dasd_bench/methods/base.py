"""The contract of a method plugin: a frozen dataclass of options and up to three functions.

A plugin file defines one class or more that derive from :class:`Method`; nothing is registered by hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np

from dasd_bench.errors import PluginError, UsageError
from dasd_bench.methods.notes import Note, check_notes
from dasd_bench.methods.plugin_calls import call, file_of
from dasd_bench.options import check_range, convert_options, option, option_rules
from dasd_bench.types import Bools, Example, Floats, Message, ScoredTarget, Target, TrainExample, protected

if TYPE_CHECKING:
    from torch import Tensor

    from dasd_bench.methods.context import LiveLogits, LiveTokens, MethodContext, RolloutContext, RunFacts
    from dasd_bench.methods.gates import GateFeatures

Denominator = Literal["kept", "all", "rows"]
Scope = Literal["token", "batch"]
Teacher = Literal["none", "base", "live", "ema"]

BASE = "base"
"""The untrained model's name: ``--method base`` evaluates it alone, and no method may have it."""


@dataclasses.dataclass(frozen=True)
class Method:
    """Base class of method plugins. The defaults of the three functions are plain SFT.

    ``denominator`` says what the loss is divided by: ``kept`` (tokens whose weight is above zero) or ``all`` target
    tokens of the global batch; ``rows`` takes the mean over a row's kept tokens, then over the batch's rows.
    ``needs_entropy`` asks the trainer for the live entropy. ``scope`` says what ``online_weights`` sees in one call: a
    piece of the batch, so that it must judge each token by itself (``token``), or the whole batch of an optimiser step,
    which costs one more forward pass (``batch``). ``teacher`` names the weights of the teachers that ``token_loss`` and
    ``online_weights`` see: the model without its adapter (``base``), as it is now (``live``), or an exponential moving
    average of its trained weights (``ema``). ``rollouts`` asks for targets drawn from the live model at every optimiser
    step by ``rollout``. ``trains`` says that ``make_targets`` trains models of its own (``context.train``), so that its
    targets depend on the training settings and the seed. ``card`` holds the training options of the authors, by name,
    for runs with ``--budget card``. ``notes`` declares what the method counts in ``Target.notes``: each becomes a
    column of the tables of targets. ``grids`` are what ``dasd-bench ablate`` tries where ``--grid`` is not given.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    denominator: ClassVar[Denominator] = "kept"
    online: ClassVar[bool] = False
    needs_entropy: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    scope: ClassVar[Scope] = "token"
    teacher: ClassVar[Teacher] = "none"
    rollouts: ClassVar[bool] = False
    card: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    notes: ClassVar[tuple[Note, ...]] = ()
    grids: ClassVar[tuple[str, ...]] = ()

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

    def refused(self, features: GateFeatures) -> Bools | None:
        """Bool [T]: where the method's decoding rule refuses the candidates of one ungated rewrite of T tokens.

        ``features`` hold numpy arrays [T]; ``dasd-bench probe`` judges rules by it. Default: None, for no rule, and for
        one that needs more than the features.
        """
        return None

    def keeps(self, target: Target) -> Bools:
        """Bool [T]: tokens the method never masks; by its ``keep`` option where it has one, else the end token."""
        return protected(target, str(getattr(self, "keep", "end")))

    def online_weights(self, live: LiveTokens) -> Tensor:
        """Weights float32 [N] on the live model's probabilities (no gradient); used where ``online`` is True."""
        raise PluginError(f"Method '{self.name}' sets online = True but does not define online_weights.")

    def token_loss(self, live: LiveLogits) -> Tensor:
        """The loss of each token [N], with gradient, before weights and denominator. Default: the nll.

        Overriding it sends the gradient through autograd, which takes more memory and time than the default.
        """
        return live.nll()

    def teacher_prompts(
        self, examples: Sequence[Example], context: MethodContext
    ) -> Sequence[Sequence[Sequence[Message]]]:
        """The chats of each example's K teachers, which see them before the target; K is the same for all.

        Default: none, so that one teacher sees the plain prompt. Used where there is a ``teacher``.
        """
        return [()] * len(examples)

    def rollout(self, examples: Sequence[TrainExample], context: RolloutContext) -> list[TrainExample]:
        """What one optimiser step trains on in place of its batch; used where ``rollouts`` is True."""
        raise PluginError(f"Method '{self.name}' sets rollouts = True but does not define rollout.")

    @property
    def teacher_decay(self) -> float:
        """The share of itself that an ``ema`` teacher keeps at an update; a method may make it an option."""
        return 0.99

    @property
    def teacher_every(self) -> int:
        """Optimiser steps between two updates of an ``ema`` teacher; a method may make it an option."""
        return 1

    def unread(self, given: Collection[str]) -> str:
        """Which of the options that the user set do nothing with the others, and what to do; empty where all count.

        ``given`` are the options of the row (``NAME+X=...``), of a row without any those of ``--set NAME.X``. The run
        is refused with these words.
        """
        return ""

    def remark(self, notes: Mapping[str, float]) -> str:
        """What a reader must know of this row, judged by its declared notes (means over seeds); empty for nothing.

        It goes into captions and warnings as ``label: remark.``, so it starts in lower case and has no full stop.
        """
        return ""


KEEP_CHOICES = ("none", "end", "end+format")


def keep_option(default: str = "end") -> Any:
    """The option every selector has: which tokens it may neither replace nor mask."""
    return option(
        default,
        help="Tokens never replaced or masked: none, end (the end-of-turn token), end+format (also answer markers).",
        choices=KEEP_CHOICES,
    )


def teacher_option(default: str = "ema") -> Any:
    """The option by which a method leaves the weights of its teachers to the user."""
    return option(
        default,
        help="Weights of the teacher: average of the trained, current, untrained.",
        choices=("ema", "live", "base"),
    )


def divergence_option(default: float) -> Any:
    """The direction of :func:`dasd_bench.methods.divergences.generalized_jsd`."""
    return option(default, help="0 KL(teacher || model), 1 KL(model || teacher), else JSD.", minimum=0.0, maximum=1.0)


def temperature_option(default: float) -> Any:
    """The temperature of a method that compares distributions on completions drawn from the model."""
    return option(default, help="Temperature of sampling and of both distributions.", minimum=0.05, maximum=5.0)


def teacher_decay_option(default: float) -> Any:
    """:attr:`Method.teacher_decay` as an option."""
    return option(default, help="What the average keeps at an update.", minimum=0.0, maximum=1.0)


def teacher_every_option(default: int) -> Any:
    """:attr:`Method.teacher_every` as an option."""
    return option(default, help="Optimiser steps between two updates of the average.", minimum=1)


def new_tokens_option(default: int, theirs: int) -> Any:
    """The generation budget of rollouts; ``theirs`` is that of the method's authors."""
    return option(default, help=f"Generation budget in tokens (the authors': {theirs}).", minimum=1)


def one_teacher(template: str, examples: Sequence[Example]) -> list[list[list[Message]]]:
    """Teacher prompts of one teacher that sees ``template`` as its question, filled with ``{prompt}`` and
    ``{reference}`` of each example."""
    texts = [template.format(prompt=one.prompt, reference=one.reference) for one in examples]
    return [[[Message("user", text)]] for text in texts]


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
    for attribute, allowed in (
        ("denominator", get_args(Denominator)),
        ("scope", get_args(Scope)),
        ("teacher", get_args(Teacher)),
    ):
        value = getattr(method, attribute)
        if value not in allowed:
            raise PluginError(
                f"{where}: method '{method.name}' has {attribute} '{value}'; use one of {', '.join(allowed)}."
            )
    params = getattr(method, "__dataclass_params__", None)
    if params is None or not params.frozen or "__dataclass_params__" not in method.__dict__:
        raise PluginError(f"{where}: method '{method.name}' must be decorated with @dataclass(frozen=True).")
    for f in dataclasses.fields(method):
        if "option" not in f.metadata:
            raise PluginError(f"{where}: option '{f.name}' of '{method.name}' has no help text: use option(...).")
        if not isinstance(f.default, (bool, int, float, str)):
            raise PluginError(f"{where}: option '{f.name}' of '{method.name}' must be a bool, int, float or str.")
    numbers = {f.name for f in dataclasses.fields(method) if type(f.default) in (int, float)}
    check_notes(method.notes, numbers, f"{where}: method '{method.name}'")
    overrides_online = method.online_weights is not Method.online_weights
    if method.online != overrides_online:
        raise PluginError(
            f"{where}: method '{method.name}' must set online = True and define online_weights, or neither."
        )
    if method.scope == "batch" and not method.online:
        raise PluginError(f"{where}: method '{method.name}' has scope 'batch' but no online_weights to use it.")
    if method.rollouts != (method.rollout is not Method.rollout):
        raise PluginError(f"{where}: method '{method.name}' must set rollouts = True and define rollout, or neither.")
    if method.teacher != "none" and not method.online and not has_token_loss(method):
        raise PluginError(
            f"{where}: method '{method.name}' has a teacher but neither token_loss nor online_weights to use it."
        )
    if method.teacher == "none" and method.teacher_prompts is not Method.teacher_prompts:
        raise PluginError(
            f"{where}: method '{method.name}' defines teacher_prompts but has no teacher to show them to."
        )
    build_method(method, {})


def has_token_loss(method: type[Method]) -> bool:
    """True where a method has a loss of its own in place of the nll."""
    return method.token_loss is not Method.token_loss


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
