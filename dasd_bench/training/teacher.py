"""The teacher of a method: other weights, other prompts, no gradient, at the trained positions of a pack.

``base`` is the model with its adapter switched off, ``live`` the model as it is, ``ema`` an exponential moving average
of the trained weights. Its passes run without dropout, before the pass that is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dasd_bench.methods.base import Method
from dasd_bench.training import adapter
from dasd_bench.training.batching import Pack
from dasd_bench.training.fsdp import Weights
from dasd_bench.training.loss import Head, TeacherStates
from dasd_bench.training.model import PackedModel


def make_teacher(method: Method, packed: PackedModel, model: nn.Module, weights: Weights) -> Teacher | None:
    """The teacher that ``method`` asks for."""
    if method.teacher == "none":
        return None
    if method.teacher == "ema":
        return EmaTeacher(packed, model, weights, method.teacher_decay, method.teacher_every)
    return BaseTeacher(packed, model) if method.teacher == "base" else Teacher(packed, model)


class Teacher:
    """The live weights; the other teachers put theirs in place for the pass."""

    def __init__(self, packed: PackedModel, model: nn.Module) -> None:
        self.packed, self.model = packed, model

    def states(self, pack: Pack) -> TeacherStates:
        """The hidden states of all teachers of ``pack``, one pass each."""
        self.model.eval()
        with torch.no_grad(), self._weights():
            hidden = tuple(self.packed.trained(inputs) for inputs in pack.teachers)
        self.model.train()
        return TeacherStates(hidden, self._head())

    def after_step(self, step: int) -> None:
        """Follows the weights after update number ``step``, counted from 1."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold of it, by the parameters' names: whole tensors on the first process."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes up what :meth:`state` gave."""

    def _weights(self) -> Any:
        return nullcontext()

    def _head(self) -> Callable[[Tensor], Tensor]:
        return self.packed.head().logits


class BaseTeacher(Teacher):
    """The adapter switched off."""

    def _weights(self) -> Any:
        return adapter.switched_off(self.model)

    def _head(self) -> Callable[[Tensor], Tensor]:
        head = self.packed.head()
        # The head may have been adapted too.
        return replace(head, linear=getattr(head.linear, "base_layer", head.linear)).logits


class EmaTeacher(Teacher):
    """w_teacher = decay * w_teacher + (1 - decay) * w after every ``every``-th step, from the untrained model on."""

    def __init__(self, packed: PackedModel, model: nn.Module, weights: Weights, decay: float, every: int) -> None:
        super().__init__(packed, model)
        self.weights, self.decay, self.every = weights, decay, every
        self.average = {name: own.detach().clone() for name, own in weights.own.items()}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        if step % self.every == 0:
            for name, own in self.weights.own.items():
                self.average[name].lerp_(own, 1.0 - self.decay)

    def state(self) -> dict[str, Tensor]:
        return self.weights.wholes(self.average)

    def load(self, state: dict[str, Tensor]) -> None:
        for name, average in self.average.items():
            average.copy_(self.weights.part(name, state[name]))

    @contextmanager
    def _weights(self) -> Iterator[None]:
        # Copied, not exchanged: cut layers read their part's memory, wherever the parameter points.
        live = {name: own.detach().clone() for name, own in self.weights.own.items()}
        self._set(self.average)
        try:
            yield
        finally:
            self._set(live)

    def _set(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, own in self.weights.own.items():
                own.copy_(values[name])

    def _head(self) -> Callable[[Tensor], Tensor]:
        head = self.packed.head()
        names = {id(parameter): name for name, parameter in self.weights.parameters.items()}
        averaged = {
            own: self.average[names[id(parameter)]]
            for own, parameter in head.linear.named_parameters()
            if id(parameter) in names
        }
        return Head(_With(head.linear, averaged), head.scale, head.softcap).logits if averaged else head.logits


class _With(nn.Module):
    """``module`` with other values of some parameters, which stay as they are."""

    def __init__(self, module: nn.Module, values: dict[str, Tensor]) -> None:
        super().__init__()
        # In a tuple, so that it is no submodule of this one.
        self._module, self._values = (module,), values

    def forward(self, hidden: Tensor) -> Tensor:
        result: Tensor = functional_call(self._module[0], self._values, (hidden,))
        return result
