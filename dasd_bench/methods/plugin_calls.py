"""The border: the one place where code of method plugins is called, and what it gives is checked.

A plugin may raise, print, exit or return anything. Whatever goes wrong becomes one :class:`PluginError` with the
plugin's file and line, which fails the arm and not the run. What is printed goes to standard error, since standard
output belongs to results and ``--json`` events. Plugins get copies: arrays they are handed cannot be written to, and
nothing they change in an example or a list reaches another method. Not contained: ``os._exit``, threads, and what is
written to file descriptors directly.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from dasd_bench.engine.errors import EngineError
from dasd_bench.errors import DasdError, PluginError
from dasd_bench.methods.context import (
    Choice,
    DualStep,
    LiveLogits,
    LiveTokens,
    MethodContext,
    RolloutContext,
    Rule,
    StepRule,
)
from dasd_bench.types import Bools, Example, Floats, Mark, Message, Origin, ScoredTarget, Target, TrainExample

if TYPE_CHECKING:
    from torch import Tensor

    from dasd_bench.methods.base import Method
    from dasd_bench.methods.gates import GateFeatures

T = TypeVar("T")


def call(doing: str, path: Path, function: Callable[..., T], *args: Any) -> T:
    """``function(*args)`` of the plugin file ``path``, contained; ``doing`` names it in the error.

    Raises :class:`PluginError`, passes on the errors of this package and of its engine, and :class:`KeyboardInterrupt`
    where a person interrupted, whatever the plugin made of that.
    """
    with contextlib.redirect_stdout(sys.stderr), contextlib.chdir(os.curdir), _Interrupts() as person:
        try:
            result = function(*args)
        except BaseException as error:
            if person.interrupted:
                raise KeyboardInterrupt from None
            if isinstance(error, (DasdError, EngineError)):
                raise
            raise PluginError(f"{place(error, path)}: {doing} {_told(error)}.") from error
    if person.interrupted:
        raise KeyboardInterrupt
    return result


class _Interrupts:
    """Notes whether Ctrl-C or SIGTERM came meanwhile: a KeyboardInterrupt may also be the plugin's own."""

    def __init__(self) -> None:
        self.interrupted = False
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> _Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        self._before[number](number, frame)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def place(error: BaseException, path: Path) -> str:
    """``file:line`` of the innermost frame in the plugin's folder, or of a syntax error there; else the file alone."""
    if isinstance(error, SyntaxError) and error.filename is not None and error.lineno is not None:
        return f"{error.filename}:{error.lineno}"
    folder = path.resolve().parent
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).resolve().is_relative_to(folder)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else str(path)


def _told(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"called sys.exit({error.code!r})"
    try:
        text = " ".join(str(error).split())[:300]
    except Exception:  # an exception class of the plugin's own may fail here too
        text = ""
    return f"raised {type(error).__name__}{': ' if text else ''}{text.rstrip('.')}"


def file_of(plugin: object) -> Path:
    """The file that defines the class, or the object's class."""
    kind = plugin if isinstance(plugin, type) else type(plugin)
    return Path(str(sys.modules[kind.__module__].__file__))


def _refuse(method: Method, function: str, wrong: str) -> PluginError:
    return PluginError(f"{file_of(method)}: {function}() of method '{method.name}' {wrong}.")


def _kind(value: object) -> str:
    """What something is, in a few words."""
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with shape {value.shape}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def draws(method: Method) -> bool:
    """The method's ``stochastic()``."""
    given = call("stochastic()", file_of(method), method.stochastic)
    if not isinstance(given, (bool, np.bool_)):
        raise _refuse(method, "stochastic", f"must return True or False, not {_kind(given)}")
    return bool(given)


def targets(method: Method, examples: Sequence[Example], context: MethodContext, vocabulary: int) -> list[Target]:
    """The method's targets, checked: known examples, ids below ``vocabulary``, well-formed prompts and columns."""
    own = [dataclasses.replace(example, extra=copy.deepcopy(example.extra)) for example in examples]
    given = call("make_targets()", file_of(method), method.make_targets, own, context)
    if not isinstance(given, (list, tuple)):
        raise _refuse(method, "make_targets", f"must return a list of Target, not {_kind(given)}")
    known = {example.id for example in examples}
    made = []
    for target in given:
        if not isinstance(target, Target):
            raise _refuse(method, "make_targets", f"must return a list of Target, but one item is {_kind(target)}")
        if target.example_id not in known:
            wrong = f"returned a target for '{target.example_id}', which is not the id of an example"
            raise _refuse(method, "make_targets", wrong)
        made.append(_checked(method, target, vocabulary))
    return made


def _checked(method: Method, target: Target, vocabulary: int) -> Target:
    def integers(name: str, largest: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        value = getattr(target, name)
        where = f"returned a target for '{target.example_id}' whose {name}"
        if not isinstance(value, np.ndarray) or value.ndim != 1 or not np.issubdtype(value.dtype, np.integer):
            raise _refuse(method, "make_targets", f"{where} must be an array of integers [T], not {_kind(value)}")
        if not len(value) or (name != "token_ids" and len(value) != len(target.token_ids)):
            wanted = "is empty" if name == "token_ids" else f"has {len(value)} items for {len(target.token_ids)} tokens"
            raise _refuse(method, "make_targets", f"{where} {wanted}")
        if int(value.min()) < 0 or int(value.max()) > largest:
            raise _refuse(method, "make_targets", f"{where} contains a value outside 0 to {largest}")
        return value.astype(dtype)

    where = f"returned a target for '{target.example_id}' whose"
    for name, kind in (("text", str), ("reason", str), ("accepted", (bool, np.bool_)), ("notes", dict)):
        if not isinstance(getattr(target, name), kind):
            raise _refuse(method, "make_targets", f"{where} {name} is {_kind(getattr(target, name))}")
    if target.prompt is not None:
        turns = target.prompt if isinstance(target.prompt, (tuple, list)) else ()
        if not turns or not all(isinstance(turn, Message) and isinstance(turn.content, str) for turn in turns):
            raise _refuse(method, "make_targets", f"{where} prompt must be None or a tuple of Message, at least one")
    if not isinstance(target.columns, dict):
        raise _refuse(method, "make_targets", f"{where} columns is {_kind(target.columns)}")
    for name, column in target.columns.items():
        if fault := _array_fault(column, len(target.token_ids), np.number, "number"):
            raise _refuse(method, "make_targets", f"{where} column {name!r} {fault}")
    for note, value in target.notes.items():
        number = isinstance(value, (bool, int, float, np.number)) and math.isfinite(value)
        if not isinstance(note, str) or not number:
            raise _refuse(method, "make_targets", f"{where} note {note!r} is not a finite number")
    return dataclasses.replace(
        target,
        token_ids=integers("token_ids", vocabulary - 1, np.int32),
        origin=integers("origin", max(Origin), np.uint8),
        marks=integers("marks", max(Mark), np.uint8),
        accepted=bool(target.accepted),
        notes={note: float(value) for note, value in target.notes.items()},
        proposals=None if target.proposals is None else integers("proposals", vocabulary - 1, np.int32),
        prompt=None if target.prompt is None else tuple(target.prompt),
        columns={name: column.astype(np.float32) for name, column in target.columns.items()},
    )


def weights(method: Method, scored: ScoredTarget) -> Floats:
    """The method's static weights float32 [T] of one target: one per token, finite, at least 0."""
    count = len(scored.target.token_ids)
    given = call("select()", file_of(method), method.select, _frozen(scored))
    wrong = _array_fault(given, count, np.number, "weight")
    if not wrong:
        with np.errstate(over="ignore"):
            made = np.array(given, dtype=np.float32)
        if np.isfinite(made).all() and (made >= 0).all():
            return made
        wrong = f"must return finite weights of at least 0; the minimum is {made.min()}, the maximum {made.max()}"
    raise _refuse(method, "select", f"{wrong} (example {scored.target.example_id})")


def refused(method: Method, features: GateFeatures, target: Target) -> Bools | None:
    """Bool [T]: candidates of one rewrite that the method's decoding rule replaces; those that it protects are not."""
    given = call("refused()", file_of(method), method.refused, features)
    if given is None:
        return None
    if wrong := _array_fault(given, len(target.token_ids), np.bool_, "bool"):
        raise _refuse(method, "refused", f"{wrong} (example {target.example_id})")
    return np.array(given, dtype=np.bool_) & ~keeps(method, target)


def keeps(method: Method, target: Target) -> Bools:
    """Bool [T]: the tokens that the method never masks."""
    given = call("keeps()", file_of(method), method.keeps, _frozen(target))
    if wrong := _array_fault(given, len(target.token_ids), np.bool_, "bool"):
        raise _refuse(method, "keeps", f"{wrong} (example {target.example_id})")
    return np.array(given, dtype=np.bool_)


def teacher_prompts(method: Method, examples: Sequence[Example], context: MethodContext) -> list[list[list[Message]]]:
    """The chats of each example's teachers: as many chats for every example, none of them empty."""
    own = [dataclasses.replace(example, extra=copy.deepcopy(example.extra)) for example in examples]
    given = call("teacher_prompts()", file_of(method), method.teacher_prompts, own, context)
    if not isinstance(given, (list, tuple)) or len(given) != len(examples):
        wrong = f"one of {len(given)}" if isinstance(given, (list, tuple)) else _kind(given)
        raise _refuse(method, "teacher_prompts", f"must return a list of {len(examples)}, one per example, not {wrong}")
    for example, chats in zip(examples, given, strict=True):
        if not isinstance(chats, (list, tuple)) or not all(map(_is_chat, chats)):
            wanted = f"must give a list of chats, each a list of Message, for example '{example.id}'"
            raise _refuse(method, "teacher_prompts", wanted)
        if len(chats) != len(given[0]):
            counts = f"{len(chats)} chats for example '{example.id}' and {len(given[0])} for '{examples[0].id}'"
            raise _refuse(method, "teacher_prompts", f"gave {counts}; give as many for every example")
    return [[list(chat) for chat in chats] for chats in given]


def _is_chat(value: object) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(turn, Message) for turn in value)


def remark(method: Method, notes: Mapping[str, float]) -> str:
    """The method's ``remark()`` on its notes, on one line."""
    given = call("remark()", file_of(method), method.remark, dict(notes))
    if not isinstance(given, str):
        raise _refuse(method, "remark", f"must return text, not {_kind(given)}")
    return " ".join(given.split())


def _array_fault(given: object, count: int, kind: Any, word: str) -> str:
    wanted = f"must return one {word} per token, an array with shape ({count},), not"
    if not isinstance(given, np.ndarray):
        return f"{wanted} {_kind(given)}"
    real = np.issubdtype(given.dtype, kind) or given.dtype == np.bool_
    if given.shape != (count,) or not real or np.iscomplexobj(given):
        return f"{wanted} {_kind(given)}"
    return ""


def _frozen(value: T) -> T:
    """A copy of a record, and of the records in it, whose arrays cannot be written to."""
    changed: dict[str, Any] = {}
    for f in dataclasses.fields(value):  # type: ignore[arg-type]
        inner = getattr(value, f.name)
        if isinstance(inner, np.ndarray):
            changed[f.name] = inner.copy()
            changed[f.name].flags.writeable = False
        elif dataclasses.is_dataclass(inner):
            changed[f.name] = _frozen(inner)
        elif isinstance(inner, dict):
            changed[f.name] = copy.deepcopy(inner)
    return dataclasses.replace(value, **changed)  # type: ignore[type-var]


def online_rule(method: Method) -> Callable[[LiveTokens], Tensor]:
    """The method's ``online_weights``, contained: float [N], finite, at least 0."""
    import torch

    path = file_of(method)

    def rule(live: LiveTokens) -> Tensor:
        own = dataclasses.replace(
            live,
            logp=live.logp.clone(),
            entropy=None if live.entropy is None else live.entropy.clone(),
            static=live.static.clone(),
            keep=live.keep.clone(),
            row=live.row.clone(),
            position=live.position.clone(),
            columns={name: values.clone() for name, values in live.columns.items()},
            teacher_logp=None if live.teacher_logp is None else live.teacher_logp.clone(),
        )
        given = call("online_weights()", path, method.online_weights, own)
        wanted = f"must return one weight per token, a tensor with shape ({len(live.logp)},), not"
        if not isinstance(given, torch.Tensor):
            raise _refuse(method, "online_weights", f"{wanted} {_kind(given)}")
        if given.shape != live.logp.shape or given.is_complex():
            raise _refuse(method, "online_weights", f"{wanted} one of {given.dtype} with shape {tuple(given.shape)}")
        made = given.detach().to(device=live.static.device, dtype=live.static.dtype)
        # A logp that is not finite is reported as divergence by the trainer: no fault of the rule's.
        if bool(((~torch.isfinite(made) | (made < 0)) & torch.isfinite(live.logp)).any()):
            raise _refuse(method, "online_weights", "returned a weight that is negative or not finite; clip it")
        return made

    return rule


def token_loss(method: Method) -> Callable[[LiveLogits], Tensor]:
    """The method's ``token_loss``, contained: one loss per token, with gradient."""
    import torch

    path = file_of(method)

    def loss(live: LiveLogits) -> Tensor:
        given = call("token_loss()", path, method.token_loss, live)
        wanted = f"must return one loss per token, a tensor with shape ({len(live.labels)},), not"
        if not isinstance(given, torch.Tensor):
            raise _refuse(method, "token_loss", f"{wanted} {_kind(given)}")
        if given.shape != live.labels.shape or given.is_complex():
            raise _refuse(method, "token_loss", f"{wanted} one of {given.dtype} with shape {tuple(given.shape)}")
        if not given.requires_grad:
            raise _refuse(method, "token_loss", "returned losses without gradient; compute them from live.logits")
        return given

    return loss


def rollout(method: Method, examples: Sequence[TrainExample], context: RolloutContext) -> list[TrainExample]:
    """The method's ``rollout``, contained: a list with at least one :class:`TrainExample`."""
    given = call("rollout()", file_of(method), method.rollout, examples, context)
    if not isinstance(given, (list, tuple)) or not given:
        wrong = "an empty one" if isinstance(given, (list, tuple)) else _kind(given)
        raise _refuse(
            method, "rollout", f"must return a list of examples to train on at step {context.step + 1}, not {wrong}"
        )
    for one in given:
        if not isinstance(one, TrainExample):
            raise _refuse(
                method, "rollout", f"must return TrainExamples, not {_kind(one)}; context.target() makes them"
            )
    return list(given)


def step_rule(rule: Rule) -> StepRule:
    """The rule, contained: one token of the vocabulary and one origin for each example of a step.

    It runs outside torch's inference mode, in which the engine's logits were made: there they cannot be written to.
    Pickle can send it to a process that has loaded the rule's plugin.
    """
    return _ContainedRule(rule, file_of(rule))


@dataclasses.dataclass(frozen=True)
class _ContainedRule:
    rule: Rule
    path: Path

    def __call__(self, step: DualStep) -> Choice:
        import torch

        rule = self.rule
        seen = tuple(map(tuple, step.tokens)) if rule.uses_tokens else ()
        step = dataclasses.replace(step, tokens=seen, decode=step.decode if rule.uses_tokens else None)
        with torch.inference_mode(False), torch.no_grad():
            given = call(f"rule {type(rule).__name__}", self.path, rule, step)
            return self._checked(given, step)

    def _checked(self, given: object, step: DualStep) -> Choice:
        import torch

        name = f"{self.path}: rule {type(self.rule).__name__}"
        if not isinstance(given, Choice):
            raise PluginError(f"{name} must return a Choice, not {_kind(given)}.")
        shape, vocabulary = step.base_token.shape, step.base_logp.shape[-1]
        for field in ("token", "origin"):
            value = getattr(given, field)
            if not isinstance(value, torch.Tensor):
                raise PluginError(f"{name}: Choice.{field} must be a tensor of integers, not {_kind(value)}.")
            if value.shape != shape or value.is_floating_point() or value.is_complex():
                raise PluginError(
                    f"{name}: Choice.{field} must be integers with shape {tuple(shape)}, "
                    f"not {value.dtype} with shape {tuple(value.shape)}."
                )
        bad_token = (given.token < 0) | (given.token >= vocabulary)
        bad_origin = (given.origin != int(Origin.CANDIDATE)) & (given.origin != int(Origin.BASE))
        bad = torch.stack([bad_token.any().cpu(), bad_origin.any().cpu()]).tolist()
        if bad[0]:
            raise PluginError(f"{name} chose a token outside 0 to {vocabulary - 1}.")
        if bad[1]:
            raise PluginError(f"{name} returned an origin that is neither Origin.CANDIDATE nor Origin.BASE.")
        device = step.base_token.device
        return Choice(given.token.to(device), given.origin.to(device))
