"""What a method may ask of the engine: the ``lab`` passed to ``make_targets``, and the types it speaks.

The contract only; the pipeline builds the real lab (:mod:`dasd_bench.run.method_context`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dasd_bench.types import Bytes, Example, Finish, Floats, Ints, Message, Target, TokenScores, Verdict

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn. ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 switch truncation off.

    Order as in transformers: temperature, then top-k, then top-p.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0


GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class Generation:
    """One sampled or greedy completion.

    ``token_ids`` int32 [T] includes the end token where one was produced; ``logp`` float32 [T] is the model's
    log-probability of each (temperature 1, no truncation); ``text`` has special tokens left out.
    """

    token_ids: Ints
    logp: Floats
    text: str
    finish: Finish


@dataclass(frozen=True, slots=True)
class DualGeneration:
    """One completion decoded with two contexts that share every generated token. All arrays have length T.

    ``origin`` uint8 (:class:`~dasd_bench.types.Origin`); ``base_logp`` and ``reference_logp`` float32 of the
    chosen token under each context; ``base_entropy`` nats and ``base_top1_logp`` of the base context;
    ``base_token`` and ``reference_token`` int32: what each stream proposed.
    """

    token_ids: Ints
    origin: Bytes
    base_logp: Floats
    reference_logp: Floats
    base_entropy: Floats
    base_top1_logp: Floats
    base_token: Ints
    reference_token: Ints
    text: str
    finish: Finish


@dataclass(frozen=True, slots=True)
class DualStep:
    """One decoding step of B live examples, as a rule sees it (torch tensors on the model's device).

    ``base_logp`` and ``reference_logp`` float32 [B, V], normalised; ``base_token`` and ``reference_token`` int64
    [B], each stream's own greedy or sampled proposal; ``uniform`` float32 [B], one draw per example from its own
    seeded generator; ``position`` int64 [B], the index of the token about to be chosen.
    """

    base_logp: Tensor
    reference_logp: Tensor
    base_token: Tensor
    reference_token: Tensor
    uniform: Tensor
    position: Tensor


@dataclass(frozen=True, slots=True)
class Choice:
    """What a rule decides: ``token`` int64 [B] and ``origin`` uint8 [B] (CANDIDATE or BASE)."""

    token: Tensor
    origin: Tensor


StepRule = Callable[[DualStep], Choice]
"""A per-step rule of dual-context decoding: a pure function of one :class:`DualStep`."""


@dataclass(frozen=True, slots=True)
class LiveTokens:
    """What an online rule sees: N target tokens of a piece of the batch under the live model, all without gradient.

    Pieces are cut to save memory, so a rule must decide token by token.

    ``logp`` float32 [N]; ``entropy`` float32 [N] in nats, or None unless the method sets ``needs_entropy``;
    ``static`` float32 [N], the weights from ``select``; ``keep`` bool [N]; ``progress`` in [0, 1], the share of
    optimiser steps done.
    """

    logp: Tensor
    entropy: Tensor | None
    static: Tensor
    keep: Tensor
    progress: float


class Lab(Protocol):
    """The only door from a method to the engine. Calls with equal arguments are answered from the store."""

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
    ) -> list[Generation]:
        """One completion per prompt, in order, until the end-of-turn token or the prompt's token budget."""

    def dual_decode(
        self,
        base: Sequence[Sequence[Message]],
        reference: Sequence[Sequence[Message]],
        rule: StepRule,
        *,
        rule_key: Sequence[object],
        max_new_tokens: Sequence[int],
        sampling: Sampling = GREEDY,
        draws: bool = False,
        label: str = "dual decode",
    ) -> list[DualGeneration]:
        """One completion per pair of contexts; ``rule_key`` names the rule and its parameters in the cache key.

        ``draws`` says that the rule uses :attr:`DualStep.uniform`; else greedy results are shared by all seeds.
        """

    def score(self, targets: Sequence[Target], examples: Sequence[Example]) -> list[TokenScores]:
        """Token scores of targets under the frozen base, given the plain prompt."""

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
    ) -> Target:
        """A target from generated tokens; the end-of-turn token is appended where it is missing."""

    def keep_token_ids(self, examples: Sequence[Example], keep: str) -> frozenset[int]:
        """Token ids that ``keep`` protects while decoding: the end-of-turn token, and the tasks' answer markers."""

    def reference_length(self, example: Example) -> int:
        """Tokens of the gold answer, end-of-turn token included."""

    def rng(self, *key: object) -> np.random.Generator:
        """A generator seeded by the run's seed and ``key`` alone, so that order never matters."""

    def warn(self, text: str) -> None:
        """Says something the user must know; repeated in the run's report."""
