"""How long a run trains: for its epochs, or until a budget of tokens is used up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from dasd_bench.config.training import TrainingConfig
from dasd_bench.training.batching import batch_order, step_count

MOST_TIMES = 10
"""A budget is pursued for at most this many times the steps of the run's epochs."""

TOKENS, COMPUTE = "tokens", "compute"


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """Training goes on until this many tokens are used; the step that reaches ``total`` is the last one.

    ``kind`` tokens counts target tokens with a weight above 0, after any online rule; compute counts all target tokens,
    tokens generated while training, and ``spent``: those that were used before training began.
    """

    kind: str
    total: int
    spent: int = 0


@dataclass(frozen=True, slots=True)
class Amount:
    """What training once on one example uses: target tokens with a static weight above 0, and all target tokens."""

    weighted: int
    target: int

    def of(self, kind: str) -> int:
        """The tokens that count for a budget of this kind."""
        return self.weighted if kind == TOKENS else self.target


class Counts(Protocol):
    """What a run has used so far."""

    step: int
    target_tokens: int
    kept_tokens: int
    generated_tokens: int


def epoch_tokens(amounts: Sequence[Amount], config: TrainingConfig, seed: int, kind: str) -> int:
    """The tokens of this ``kind`` that training for the configured epochs uses, over all its steps."""
    steps = step_count(len(amounts), config.batch_size, config.epochs)
    per_step = _per_step(amounts, config, seed, kind)
    return sum(next(per_step) for _ in range(steps))


def steps_to(amounts: Sequence[Amount], config: TrainingConfig, seed: int, budget: TokenBudget) -> int:
    """The first step at which the budget is used up, at least 1; never more than :data:`MOST_TIMES` the epochs'."""
    most = MOST_TIMES * step_count(len(amounts), config.batch_size, config.epochs)
    used = budget.spent if budget.kind == COMPUTE else 0
    for step, tokens in enumerate(_per_step(amounts, config, seed, budget.kind), 1):
        used += tokens
        if used >= budget.total or step >= most:
            return step
    raise AssertionError


def _per_step(amounts: Sequence[Amount], config: TrainingConfig, seed: int, kind: str) -> Iterator[int]:
    for indices in batch_order(len(amounts), config.batch_size, seed):
        yield sum(amounts[i].of(kind) for i in indices)


class Pace:
    """When one run ends and how far it is.

    Where ``live`` (an online rule or the model itself decides how many tokens count) the steps of a budget are not
    known ahead: they are then estimated anew at every step from what the steps so far have used.
    """

    def __init__(
        self,
        amounts: Sequence[Amount],
        config: TrainingConfig,
        seed: int,
        budget: TokenBudget | None = None,
        *,
        live: bool = False,
    ) -> None:
        self.budget = budget
        self.live = live and budget is not None
        self.epochs = step_count(len(amounts), config.batch_size, config.epochs)
        self.planned = self.epochs if budget is None else steps_to(amounts, config, seed, budget)

    def used(self, counts: Counts) -> int:
        """Tokens that count for the budget so far."""
        if self.budget is None:
            return 0
        if self.budget.kind == TOKENS:
            return counts.kept_tokens
        return self.budget.spent + counts.target_tokens + counts.generated_tokens

    def total(self, counts: Counts) -> int:
        """Steps of the whole run, as far as they are known now."""
        if not self.live or self.budget is None or not counts.step:
            return self.planned
        most = MOST_TIMES * self.epochs
        spent = self.budget.spent if self.budget.kind == COMPUTE else 0
        each = (self.used(counts) - spent) / counts.step
        left = max(0, self.budget.total - self.used(counts))
        return min(most, counts.step + math.ceil(left / each)) if each else most

    def fraction(self, counts: Counts) -> float:
        """The share of training that is done, from 0 to 1."""
        return counts.step / self.total(counts)

    def done(self, counts: Counts) -> bool:
        """Whether the last step has been taken."""
        return counts.step >= self.total(counts)

    def short(self, counts: Counts) -> int:
        """Tokens by which a budget is missed so far."""
        return 0 if self.budget is None else max(0, self.budget.total - self.used(counts))
