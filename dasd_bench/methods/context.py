"""What a method may ask of the engine: the ``context`` passed to ``make_targets``, and the types it speaks.

The contract only; a run's implementation is in :mod:`dasd_bench.run.method_context`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from dasd_bench.engine.types import GREEDY as GREEDY
from dasd_bench.engine.types import Choice as Choice
from dasd_bench.engine.types import DualGeneration as DualGeneration
from dasd_bench.engine.types import DualStep as DualStep
from dasd_bench.engine.types import Generation as Generation
from dasd_bench.engine.types import Sampling as Sampling
from dasd_bench.engine.types import StepRule as StepRule
from dasd_bench.engine.types import TokenScores as TokenScores
from dasd_bench.types import Bytes, Example, Floats, Ints, Message, Origin, Target, TrainExample, Verdict

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """Base class of the rules of dual-context decoding: a frozen dataclass whose fields are the rule's parameters.

    ``__call__`` must be a pure function of the step and the fields. Stored results are keyed by the plugin's source,
    the class and its fields; fields are plain values (numbers, texts, tuples or sets of them). Define the class at the
    top level of a module, never inside a function. A rule that reads :attr:`DualStep.uniform` sets ``uses_draws``: each
    seed then decodes for itself, while greedy results of other rules are shared by all seeds. One that reads
    :attr:`DualStep.tokens` or :attr:`DualStep.decode` sets ``uses_tokens``.
    """

    uses_draws: ClassVar[bool] = False
    uses_tokens: ClassVar[bool] = False

    def __call__(self, step: DualStep) -> Choice:
        """Which token each live example takes."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class LiveTokens:
    """What an online rule sees: N target tokens of a piece of the batch under the live model, all without gradient.

    Pieces are cut to save memory, so a rule must decide token by token. Tokens of static weight 0 are not among them.

    ``logp`` float32 [N]; ``entropy`` float32 [N] in nats, or None unless the method sets ``needs_entropy``;
    ``static`` float32 [N], the weights from ``select``; ``keep`` bool [N]; ``progress`` in [0, 1], the share of
    optimiser steps done; ``row`` int64 [N], which target of the optimiser step's batch the token belongs to;
    ``position`` int64 [N], its index in that target; ``columns`` float32 [N] by name, as the targets gave them;
    ``teacher_logp`` float32 [K, N], the same tokens under the method's K teachers, or None without one.
    """

    logp: Tensor
    entropy: Tensor | None
    static: Tensor
    keep: Tensor
    progress: float
    row: Tensor
    position: Tensor
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    teacher_logp: Tensor | None = None

    def row_sums(self, values: Tensor) -> Tensor:
        """Sums of ``values`` [..., N] over the tokens of each target, [..., R]; R is the highest row plus 1."""
        rows = int(self.row.max()) + 1
        return values.new_zeros(*values.shape[:-1], rows).index_add_(-1, self.row, values)


@dataclass(frozen=True, slots=True)
class LiveLogits:
    """What ``token_loss`` sees: N target tokens of a piece of the batch; it must judge each token by itself.

    ``logits`` float32 [N, V] of the trained model, with gradient; ``teacher_logits`` float32 [K, N, V] without gradient
    (K is 0 without a teacher); ``labels``, ``row`` and ``position`` int64 [N], ``columns`` and ``progress`` as in
    :class:`LiveTokens`.
    """

    logits: Tensor
    teacher_logits: Tensor
    labels: Tensor
    row: Tensor
    position: Tensor
    columns: Mapping[str, Tensor]
    progress: float

    def logp(self) -> Tensor:
        """Log-probability of the labels, float32 [N], with gradient."""
        return self.logits.log_softmax(-1).gather(-1, self.labels[:, None])[:, 0]

    def teacher_logp(self) -> Tensor:
        """Log-probability of the labels under each teacher, float32 [K, N]."""
        labels = self.labels.expand(self.teacher_logits.shape[:-1])[..., None]
        return self.teacher_logits.log_softmax(-1).gather(-1, labels)[..., 0]

    def nll(self) -> Tensor:
        """Negative log-likelihood of the labels in nats, float32 [N], with gradient."""
        return -self.logp()


class RolloutContext(Protocol):
    """What ``rollout`` may ask of the model as it is at this optimiser step.

    ``step`` counts from 0; ``progress`` in [0, 1] is the share of steps done.
    """

    step: int
    progress: float

    def generate(
        self, examples: Sequence[TrainExample], *, max_new_tokens: int, sampling: Sampling = GREEDY
    ) -> list[Generation]:
        """One completion of each example's prompt under the live weights, in order. Give an example several times for
        several draws. Seeds come from the run's seed, the step and the place in the list."""

    def target(self, example: TrainExample, generation: Generation) -> TrainExample:
        """The example with the completion as its target: weight 1 everywhere, no columns, the same teacher prompts."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model that a method trained with :meth:`MethodContext.train`. ``label`` names it, ``adapter`` is its folder."""

    label: str
    adapter: Path


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a method may need to know before any work is done: see :meth:`dasd_bench.methods.base.Method.lacking`.

    ``backend`` is ``hf`` or ``vllm``; ``chat_template`` is ``auto``, ``plain`` or ``off``; ``offline`` is True where
    the hub is never asked; ``lora`` is False where all weights are trained; ``tasks`` are the names of the tasks that
    are trained on.
    """

    backend: str
    chat_template: str
    offline: bool
    lora: bool
    tasks: tuple[str, ...]


class MethodContext(Protocol):
    """The only door from a method to the engine. Calls with equal arguments are answered from the store.

    What draws random numbers draws anew in each call of one ``make_targets``, also where two calls are equal.
    A prompt is a chat. Where its last turn is the assistant's, the answer goes on from there; an empty one holds at
    most the beginning-of-sequence token.
    """

    end_token_id: int

    def plain_prompt(self, example: Example) -> list[Message]:
        """The chat the trained model will see: the question alone."""

    def rewrite_prompt(self, example: Example, style: str = "multi-turn") -> list[Message]:
        """The answer-aware chat: question and reference, then the request to write the solution again.

        ``multi-turn`` (default) gives the reference as the assistant's turn, so that its key-value prefix is the plain
        prompt's; ``guide`` puts question and reference in one user turn, as SDFT does.
        """

    def new_tokens(self, example: Example) -> int:
        """The generation budget for a target of this example's task, in tokens."""

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        max_new_tokens: Sequence[int],
        sampling: Sampling = GREEDY,
        label: str = "generate",
        model: ModelRef | None = None,
    ) -> list[Generation]:
        """One completion per prompt, in order, until the end-of-turn token or the prompt's token budget.

        ``model`` is one that this method trained; by default the base.
        """

    def dual_decode(
        self,
        base: Sequence[Sequence[Message]],
        reference: Sequence[Sequence[Message]],
        rule: Rule,
        *,
        max_new_tokens: Sequence[int],
        sampling: Sampling = GREEDY,
        examples: Sequence[Example] = (),
        keep: str = "none",
        label: str = "dual decode",
        parameters: Sequence[Sequence[float]] = (),
        reference_model: ModelRef | None = None,
    ) -> list[DualGeneration]:
        """One completion per pair of contexts, in order; ``rule`` chooses every token.

        ``parameters`` are numbers by pair that the rule reads as :attr:`DualStep.parameters`. ``reference_model`` is a
        model that this method trained, for the reference stream; by default both are the base.

        ``keep`` decides :attr:`DualStep.keep`: ``end`` protects tokens that end the answer, ``end+format`` also those
        that write a part of a task's answer markers; it takes the tasks from ``examples``, one per pair. A candidate
        that begins a marker counts, though what follows is not known yet.
        """

    def score(
        self,
        targets: Sequence[Target],
        examples: Sequence[Example],
        *,
        prompts: Sequence[Sequence[Message]] | None = None,
        model: ModelRef | None = None,
    ) -> list[TokenScores]:
        """Token scores of targets under the frozen base or ``model``, given ``prompts``: by default what they answer.

        Under an empty prompt of a model without a beginning-of-sequence token nothing comes before the first token: its
        scores are NaN and its rank -1.
        """

    def train(
        self,
        targets: Sequence[Target],
        weights: Sequence[Floats] | None = None,
        *,
        label: str = "round",
        init: ModelRef | None = None,
    ) -> ModelRef:
        """Trains the base on targets with the arm's training settings and seed; only where the method sets ``trains``.

        ``init`` is a model that this method trained, which training goes on from with a new optimiser and schedule.
        ``weights`` float32 [T] per target are 1 by default. Equal calls of one arm train once.
        """

    def remember(self, kind: str, key: object, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """What ``make`` computes (arrays by name), stored under the plugin's source, ``kind`` and ``key``.

        ``key`` must hold all else that the result depends on: numbers, texts, and lists or dictionaries of them.
        """

    def grade_all(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Verdict]:
        """The tasks' own graders: a verdict per completion, in order. Programs run side by side."""

    def reference_target(
        self,
        example: Example,
        reason: str = "gold",
        accepted: bool = True,
        notes: dict[str, float] | None = None,
    ) -> Target:
        """The gold answer as a target, end-of-turn token included."""

    def text_target(
        self,
        example: Example,
        text: str,
        origin: Origin,
        *,
        reason: str,
        accepted: bool,
        notes: dict[str, float] | None = None,
        prompt: Sequence[Message] | None = None,
    ) -> Target:
        """A target from text, end-of-turn token included."""

    def target(
        self,
        example: Example,
        token_ids: Sequence[int] | Ints,
        origin: Bytes,
        *,
        reason: str,
        accepted: bool,
        notes: dict[str, float] | None = None,
        proposals: Ints | None = None,
        prompt: Sequence[Message] | None = None,
        columns: dict[str, Floats] | None = None,
    ) -> Target:
        """A target from generated tokens; the end-of-turn token is appended where it is missing.

        ``prompt`` is the chat it answers, by default the example's question. ``columns`` float32 [T] are numbers per
        token; where the end token is appended they go on with 0.
        """

    def reference_length(self, example: Example) -> int:
        """Tokens of the gold answer, end-of-turn token included."""

    def character_ends(self, target: Target) -> list[int]:
        """Where the text of each token ends in ``target.text``, the end token aside."""

    def task_examples(self, task: str) -> list[Example]:
        """All examples of a task's train split; only of tasks that the method names in ``other_tasks``."""

    def rng(self, *key: object) -> np.random.Generator:
        """A generator seeded by the run's seed and ``key`` alone, so that order never matters."""

    def warn(self, text: str) -> None:
        """Says something the user must know; repeated in the run's report."""
