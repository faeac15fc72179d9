"""``--budget tokens`` and ``compute``: how long each arm of a seed is trained, so that all of them use the same.

The total is the most that any arm uses in its own epochs, so no arm trains for less than they say. It follows from the
targets, so it is known once every arm's targets are scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dasd_bench.config.spec import ArmSpec
from dasd_bench.errors import DasdError, PluginError
from dasd_bench.run.adapters import held_out_ids
from dasd_bench.run.context import RunContext
from dasd_bench.run.prompts import Prompts
from dasd_bench.run.stages.scores import Scores
from dasd_bench.training.batching import step_count
from dasd_bench.training.pace import COMPUTE, MOST_TIMES, TOKENS, Amount, TokenBudget, epoch_tokens, steps_to
from dasd_bench.types import WeightedTarget

UNITS = {TOKENS: "active tokens", COMPUTE: "generated and trained tokens"}


class UnknownBudgetError(DasdError):
    """The targets that a budget follows from are not all made yet."""


@dataclass(eq=False)
class Matching:
    """The budget that the arms of one seed share; ``kind`` is tokens or compute."""

    context: RunContext
    seed: int
    kind: str
    arms: list[Scores] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Labels of the arms that have no targets."""
    _settled: bool = False
    _amounts: dict[int, list[Amount]] = field(default_factory=dict)

    def settle(self, prepared: Sequence[Scores]) -> None:
        """Names the arms that were prepared; those that failed take no part, and say so themselves."""
        self.failed = [one.arm.label for one in self.arms if one not in prepared]
        self.arms = [one for one in self.arms if one in prepared]
        self._settled = True

    def known(self) -> bool:
        """Whether the targets of every arm are there."""
        try:
            return self._settled or all(one.targets.entry.finished() and one.entry.finished() for one in self.arms)
        except PluginError:
            return False

    @cached_property
    def total(self) -> int:
        """The tokens that every arm uses. Raises :class:`UnknownBudgetError` where they are not known yet."""
        if not self.known():
            raise UnknownBudgetError(f"--budget {self.kind}: the targets are not all made yet.")
        return max([used for one in self.arms if (used := self.own_use(one)) is not None], default=0)

    def amounts(self, scores: Scores) -> list[Amount]:
        """What training once on each of an arm's targets uses, those of held-out examples left out."""
        if id(scores) not in self._amounts:
            held = held_out_ids(scores.arm, self.seed, scores.targets.examples)
            items = [item for item in scores.value if item.example.id not in held]
            self._amounts[id(scores)] = amounts(self.context, scores.arm, items)
        return self._amounts[id(scores)]

    def own_use(self, scores: Scores) -> int | None:
        """The tokens that an arm uses in its own epochs; None where it draws its targets while it is trained."""
        if scores.arm.weighing.method.rollouts:
            return None
        return self.spent(scores) + epoch_tokens(self.amounts(scores), scores.arm.training, self.seed, self.kind)

    def spent(self, scores: Scores) -> int:
        """The tokens of a compute budget that making an arm's targets used."""
        cost = scores.targets.cost
        return cost.generated_tokens + cost.round_tokens if self.kind == COMPUTE else 0

    def budget(self, scores: Scores) -> TokenBudget:
        """How long an arm is trained."""
        return TokenBudget(self.kind, self.total, self.spent(scores))

    def steps(self, scores: Scores) -> int:
        """The steps that an arm takes; a lower bound where a rule decides on the live model which tokens count."""
        return steps_to(self.amounts(scores), scores.arm.training, self.seed, self.budget(scores))

    def line(self) -> str:
        """The plan's line: the total, and what each arm uses by itself and the steps it takes."""
        start = f"Budget {self.kind}, seed {self.seed}: "
        if not self.known():
            return f"{start}the total follows from the targets, so it is known once those of all arms are made."
        parts = [f"{one.arm.label} {self._words(one)}" for one in self.arms]
        parts += [f"{label} has no targets, so it is not matched" for label in self.failed]
        return f"{start}every arm trains until it has used {self.total:,} {UNITS[self.kind]} ({'; '.join(parts)})."

    def _words(self, scores: Scores) -> str:
        """What one arm uses by itself and how many steps it takes, or why it cannot be matched."""
        method, training, own = scores.arm.weighing.method, scores.arm.training, self.own_use(scores)
        if own is None:
            return "until it has drawn as many"
        every = self.amounts(scores)
        if not any(amount.weighted for amount in every):
            return "has no active token, so it cannot be matched"
        steps = self.steps(scores)
        if steps == MOST_TIMES * step_count(len(every), training.batch_size, training.epochs):
            return f"{own:,} alone, {steps} steps, which is {MOST_TIMES} times its epochs and the limit"
        live = "at least " if self.kind == TOKENS and method.online else ""
        return f"{own:,} alone, {live}{steps} steps"


def amounts(context: RunContext, arm: ArmSpec, items: Sequence[WeightedTarget]) -> list[Amount]:
    """Tokens per target within the arm's longest length, as the trainer counts them.

    A teacher's longer prompt, which leaves less room, is not looked at here.
    """
    prompts = Prompts(context)
    limit = min(context.context_length or 2**31, arm.training.max_length or 2**31)
    found = []
    for item in items:
        room = max(0, limit - len(prompts.target_ids(item.target, item.example)))
        weights = item.weights[:room]
        found.append(Amount(int(np.count_nonzero(weights)), len(weights)))
    return found
