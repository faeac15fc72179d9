"""What a method may ask of the engine: the ``context`` passed to ``make_targets``, and the types it speaks.

What needs a run is abstract here and defined in :mod:`dasd_bench.run.method_context`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dasd_bench.engine.types import GREEDY as GREEDY
from dasd_bench.engine.types import Choice as Choice
from dasd_bench.engine.types import DualGeneration as DualGeneration
from dasd_bench.engine.types import DualStep as DualStep
from dasd_bench.engine.types import Generation as Generation
from dasd_bench.engine.types import Sampling as Sampling
from dasd_bench.engine.types import StepRule as StepRule
from dasd_bench.engine.types import TokenScores as TokenScores
from dasd_bench.store.atomic import digest
from dasd_bench.types import Bytes, Example, Floats, Ints, Mark, Message, Origin, Target, TrainExample, Verdict

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Rule(ABC):
    """Base class of the rules of dual-context decoding: a frozen dataclass whose fields are the rule's parameters.

    ``__call__`` must be a pure function of the step and the fields. Stored results are keyed by the plugin's source,
    the class and its fields; fields are plain values (numbers, texts, tuples or sets of them). Define the class at the
    top level of a module, never inside a function. A rule that reads :attr:`DualStep.uniform` sets ``uses_draws``: each
    seed then decodes for itself, while greedy results of other rules are shared by all seeds. One that reads
    :attr:`DualStep.tokens` or :attr:`DualStep.decode` sets ``uses_tokens``.
    """

    uses_draws: ClassVar[bool] = False
    uses_tokens: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, step: DualStep) -> Choice:
        """Which token each live example takes."""


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


class RolloutContext(ABC):
    """What ``rollout`` may ask of the model as it is at this optimiser step.

    ``step`` counts from 0; ``progress`` in [0, 1] is the share of steps done.
    """

    step: int
    progress: float

    @abstractmethod
    def generate(
        self, examples: Sequence[TrainExample], *, max_new_tokens: int, sampling: Sampling = GREEDY
    ) -> list[Generation]:
        """One completion of each example's prompt under the live weights, in order. Give an example several times for
        several draws. Seeds come from the run's seed, the step and the place in the list."""

    def completions(
        self, examples: Sequence[TrainExample], *, max_new_tokens: int, sampling: Sampling = GREEDY
    ) -> list[TrainExample]:
        """Each example with one completion of its prompt as its target: what ``generate`` and ``target`` give."""
        drawn = self.generate(examples, max_new_tokens=max_new_tokens, sampling=sampling)
        return [self.target(example, one) for example, one in zip(examples, drawn, strict=True)]

    def target(self, example: TrainExample, generation: Generation) -> TrainExample:
        """The example with the completion as its target: weight 1 everywhere, no columns, the same teacher prompts."""
        ids = np.asarray(generation.token_ids, dtype=np.int32)
        return replace(
            example,
            target_ids=ids,
            weights=np.ones(len(ids), dtype=np.float32),
            keep=np.zeros(len(ids), dtype=np.bool_),
            columns={},
        )


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


class MethodContext(ABC):
    """The only door from a method to the engine. Calls with equal arguments are answered from the store.

    What draws random numbers draws anew in each call of one ``make_targets``, also where two calls are equal.
    A prompt is a chat. Where its last turn is the assistant's, the answer goes on from there; an empty one holds at
    most the beginning-of-sequence token.

    Targets are made here; what needs a model, a tokenizer or a task is left to the run, which also sets the attributes:
    ``end_token_id`` ends a turn, ``_stop_ids`` are the tokens at which generation stops, ``_seed`` is the run's seed.
    """

    end_token_id: int
    _stop_ids: frozenset[int]
    _seed: int

    def plain_prompt(self, example: Example) -> list[Message]:
        """The chat the trained model will see: the question alone, or the turns that lead to it."""
        return example.plain_chat()

    @abstractmethod
    def rewrite_prompt(self, example: Example, style: str = "multi-turn") -> list[Message]:
        """The answer-aware chat: question and reference, then the request to write the solution again.

        ``multi-turn`` (default) gives the reference as the assistant's turn, so that its key-value prefix is the plain
        prompt's; ``guide`` puts question and reference in one user turn, as SDFT does.
        """

    @abstractmethod
    def new_tokens(self, example: Example) -> int:
        """The generation budget for a target of this example's task, in tokens."""

    @abstractmethod
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

    @abstractmethod
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

    @abstractmethod
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

    @abstractmethod
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

    @abstractmethod
    def remember(self, kind: str, key: object, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """What ``make`` computes (arrays by name), stored under the plugin's source, ``kind`` and ``key``.

        ``key`` must hold all else that the result depends on: numbers, texts, and lists or dictionaries of them.
        """

    @abstractmethod
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
        return self.text_target(example, example.reference, Origin.GOLD, reason=reason, accepted=accepted, notes=notes)

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
        ids = np.array(self._answer_ids(text), dtype=np.int32)
        origins = np.full(len(ids), origin, dtype=np.uint8)
        return self.target(example, ids, origins, reason=reason, accepted=accepted, notes=notes, prompt=prompt)

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
        ids = np.array(token_ids, dtype=np.int32)
        columns = dict(columns or {})
        if len(ids) and int(ids[-1]) in self._stop_ids:
            # A model may close with its end-of-text token; what is trained is always the end-of-turn token.
            ids[-1] = self.end_token_id
        else:
            ids = np.append(ids, np.int32(self.end_token_id))
            origin = np.append(origin, np.uint8(Origin.GOLD))
            if proposals is not None:
                proposals = np.append(proposals, np.int32(self.end_token_id))
            columns = {name: np.append(column, np.float32(0)) for name, column in columns.items()}
        text = self._decode(ids[:-1].tolist())
        return Target(
            example.id,
            ids,
            origin,
            self._marks(example, ids, text),
            text,
            accepted,
            reason,
            dict(notes or {}),
            proposals,
            None if prompt is None else tuple(prompt),
            columns,
        )

    def _marks(self, example: Example, ids: Ints, text: str) -> Bytes:
        """Uint8 [T]: the end token, and the tokens that write a part of the task's answer format in ``text``."""
        marks = np.zeros(len(ids), dtype=np.uint8)
        marks[-1] = Mark.END
        if spans := self._answer_spans(example, text):
            ends = character_ends(self._decode, ids[:-1].tolist())
            for index, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                if any(start < last and end > first for first, last in spans):
                    marks[index] = Mark.FORMAT
        return marks

    def reference_length(self, example: Example) -> int:
        """Tokens of the gold answer, end-of-turn token included."""
        return len(self._answer_ids(example.reference))

    def character_ends(self, target: Target) -> list[int]:
        """Where the text of each token ends in ``target.text``, the end token aside."""
        return character_ends(self._decode, target.token_ids[:-1].tolist())

    @abstractmethod
    def task_examples(self, task: str) -> list[Example]:
        """All examples of a task's train split; only of tasks that the method names in ``other_tasks``."""

    def rng(self, *key: object) -> np.random.Generator:
        """A generator seeded by the run's seed and ``key`` alone, so that order never matters."""
        return np.random.default_rng(self._seed_of(*key))

    @abstractmethod
    def warn(self, text: str) -> None:
        """Says something the user must know; repeated in the run's report."""

    def _seed_of(self, *key: object) -> int:
        return int(digest("rng", self._seed, [str(part) for part in key])[:15], 16)

    @abstractmethod
    def _answer_ids(self, text: str) -> list[int]:
        """Token ids of a whole answer, end-of-turn token included."""

    @abstractmethod
    def _decode(self, ids: list[int]) -> str:
        """The text of token ids, special tokens left out."""

    @abstractmethod
    def _answer_spans(self, example: Example, text: str) -> list[tuple[int, int]]:
        """Where ``text`` writes the answer format of the example's task: first and last character, exclusive."""


WINDOW = 64
"""Tokens after which :func:`character_ends` takes a new start."""


def character_ends(decode: Callable[[list[int]], str], ids: list[int]) -> list[int]:
    """``len(decode(ids[: i + 1]))`` of every i, in time linear in the number of tokens.

    Both decodings that are compared begin a whole window before the tokens they differ in, so what a decoder does at
    a beginning, and the pieces of a character at an end, are the same in both.
    """
    ends: list[int] = []
    for start in range(0, len(ids), WINDOW):
        first = max(0, start - WINDOW)
        before = (ends[-1] if ends else 0) - (len(decode(ids[first:start])) if start else 0)
        ends += [before + len(decode(ids[first : i + 1])) for i in range(start, min(start + WINDOW, len(ids)))]
    return ends
