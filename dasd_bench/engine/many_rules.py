"""Dual decoding by many rules in one pass: rules share an answer's tokens, and their computation, until they part.

An answer is a tree of branches, each held by the rules that chose all of its tokens. Where the rules of a branch choose
different tokens it forks, with a copy of its keys and values; where the cache has no row left the fork waits, and its
prompt and tokens are computed again. Every rule gets the tokens that it gets alone, up to the rounding that other
neighbours in a batch cause in any decoding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from dasd_bench.engine.decoding import REFILL, Decoder
from dasd_bench.engine.requests import DualRequest, GenerateRequest
from dasd_bench.engine.samplers import DualSampler, Item
from dasd_bench.engine.sampling import propose
from dasd_bench.engine.trie import Tokens
from dasd_bench.engine.types import Choice, DualGeneration, DualStep, StepRule


@dataclass(slots=True)
class SharedCost:
    """What one pass for many rules computed, in tokens through the model; ``alone`` is the sum of single rules.

    ``prompts`` counts the tokens of prompts that begin an item, ``repeated`` those of forks that had to be computed
    again, ``decoded`` those of decoding steps. Prompt prefixes that several items share count in each.
    """

    prompts: int = 0
    repeated: int = 0
    decoded: int = 0
    alone: int = 0
    forks: int = 0

    @property
    def tokens(self) -> int:
        """All tokens of the pass."""
        return self.prompts + self.repeated + self.decoded

    def add(self, other: SharedCost) -> None:
        """Adds another pass."""
        for name in ("prompts", "repeated", "decoded", "alone", "forks"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(eq=False)
class Branch:
    """Tokens that ``rules`` have chosen in common; ``origins[rule]`` has what each gave for every token."""

    item: Item
    rules: list[int]
    origins: dict[int, list[float]] = field(default_factory=dict)

    def fork(self, rules: list[int]) -> Branch:
        """A branch with the same tokens so far for some of the rules."""
        item = copy.copy(self.item)
        item.tokens, item.notes = list(self.item.tokens), list(self.item.notes)
        return Branch(item, rules, {rule: self.origins[rule] for rule in rules})

    def take(self, rules: list[int], row: tuple[float, ...]) -> None:
        """Goes on with the token that ``rules`` chose, the first number of what was noted of it."""
        self.rules = rules
        self.origins = {rule: self.origins[rule] for rule in rules}
        self.item.note(row)
        self.item.tokens.append(int(row[0]))


Group = tuple[list[int], tuple[float, ...]]
"""Rules that choose the same token, and what is noted of it."""


class ManyRulesSampler(DualSampler):
    """Lets every rule choose at every branch; ``parameters[rule][index]`` are what request ``index`` brings to it."""

    def __init__(
        self, rules: Sequence[StepRule], parameters: Sequence[Sequence[tuple[float, ...]]], *rest: Any
    ) -> None:
        super().__init__(rules[0], *rest)
        self._rules = rules
        self._parameters_of = parameters

    def choose_for(self, rule: int, step: DualStep, items: Sequence[Item], rows: Sequence[int]) -> Choice:
        """What one rule chooses in some ``rows`` of a step."""
        given = [self._parameters_of[rule][items[row].index] for row in rows]
        device = step.base_token.device
        parameters = torch.tensor(given, dtype=torch.float32, device=device) if any(given) else None
        if len(rows) < len(items):
            step = rows_of(step, torch.tensor(rows, device=device))
        return self._rules[rule](replace(step, parameters=parameters))


def rows_of(step: DualStep, rows: torch.Tensor) -> DualStep:
    """The step of some of its examples, int64 [b], with a memo of its own."""
    assert step.disagreed is not None
    assert step.replaced is not None
    uniform = step.uniform[rows]
    return replace(
        step,
        base_logp=step.base_logp[rows],
        reference_logp=step.reference_logp[rows],
        base_token=step.base_token[rows],
        reference_token=step.reference_token[rows],
        uniform=uniform,
        position=step.position[rows],
        keep=step.keep[rows],
        tokens=[step.tokens[row] for row in rows.tolist()],
        draw=partial(propose, uniform=uniform),
        disagreed=step.disagreed[rows],
        replaced=step.replaced[rows],
        memo={},
    )


class ManyRulesDecoder(Decoder[list[DualGeneration]]):
    """Runs dual requests by many rules; a result is one generation per rule. ``cost`` grows as it works."""

    def __init__(self, sampler: ManyRulesSampler, rules: int, *args: Any) -> None:
        super().__init__(*args)
        self._many = sampler
        self._count = self.branches = rules
        self.cost = SharedCost()

    def _decode(
        self,
        requests: Sequence[GenerateRequest | DualRequest],
        prompts: Sequence[Sequence[Tokens]],
        order: Sequence[int],
        max_num_seqs: int,
        emit: Callable[[int, Any], None],
    ) -> None:
        session = self._session(requests, prompts, order, max_num_seqs)
        sampler = self._many
        done: dict[int, dict[int, DualGeneration]] = {index: {} for index in order}
        waiting = [
            Branch(
                Item(i, requests[i], sampler.uniforms, self._limit(requests[i], prompts[i])), list(range(self._count))
            )
            for i in reversed(order)
        ]
        for branch in waiting:
            branch.origins = {rule: [] for rule in branch.rules}
        live: list[Branch] = []
        hidden: torch.Tensor | None = None
        admitted = min(max_num_seqs, self._settings.max_num_seqs)
        while waiting or live:
            free = admitted - len(live)
            if waiting and (not live or free >= min(len(waiting), max(1, admitted // REFILL))):
                taken = [waiting.pop() for _ in range(min(free, len(waiting)))]
                contexts = [self._so_far(branch, prompts[branch.item.index]) for branch in taken]
                states = session.admit(contexts)
                hidden = states if hidden is None or not live else torch.cat([hidden, states])
                live += taken
            assert hidden is not None
            for number, groups in enumerate(self._groups(self._logits(hidden), live)):
                branch, (own, *others) = live[number], groups
                for rules, row in others:
                    other = branch.fork(rules)
                    other.take(rules, row)
                    self.cost.forks += 1
                    if len(live) < max_num_seqs:
                        session.fork(number)
                        live.append(other)
                    else:
                        waiting.append(other)
                branch.take(*own)
            waiting = [branch for branch in waiting if not self._ended(branch, prompts, done, emit)]
            for number in range(len(live) - 1, -1, -1):
                if self._ended(live[number], prompts, done, emit):
                    session.drop(number)
                    live[number] = live[-1]
                    live.pop()
            if live:
                self.cost.decoded += sampler.width * len(live)
                hidden = session.step([one.item.tokens[-1] for one in live for _ in range(sampler.width)])

    def _so_far(self, branch: Branch, contexts: Sequence[Tokens]) -> list[Tokens]:
        """A branch's contexts: the prompts, and the tokens of a fork that waited."""
        tokens = branch.item.tokens
        count = sum(len(one) + len(tokens) for one in contexts)
        if tokens:
            self.cost.repeated += count
        else:
            self.cost.prompts += count
        return [np.concatenate([one, np.array(tokens, dtype=np.int64)]) for one in contexts]

    def _groups(self, logits: torch.Tensor, live: Sequence[Branch]) -> list[list[Group]]:
        """By branch the groups of its rules that choose the same token; notes the origins that each rule gives."""
        sampler = self._many
        items = [branch.item for branch in live]
        step, summary = sampler.step(logits, items)
        found: list[dict[int, Group]] = [{} for _ in live]
        for rule in range(self._count):
            rows = [number for number, branch in enumerate(live) if rule in branch.origins]
            if not rows:
                continue
            choice = sampler.choose_for(rule, step, items, rows)
            own = torch.tensor(rows, device=logits.device)
            noted = sampler.noted(step, choice, summary, [items[row] for row in rows], own)
            for row, numbers in zip(rows, noted, strict=True):
                live[row].origins[rule].append(numbers[1])
                found[row].setdefault(int(numbers[0]), ([], numbers))[0].append(rule)
        return [list(groups.values()) for groups in found]

    def _ended(
        self,
        branch: Branch,
        prompts: Sequence[Sequence[Tokens]],
        done: dict[int, dict[int, DualGeneration]],
        emit: Callable[[int, Any], None],
    ) -> bool:
        """Whether a branch has ended; its rules then have their result."""
        item = branch.item
        if not item.tokens or (finish := item.finish(self._tokenizer)) is None:
            return False
        text = self._tokenizer.decode(item.tokens, skip_special_tokens=True)
        shared = self._many.result(item, text, finish)
        found = done[item.index]
        for rule in branch.rules:
            found[rule] = replace(shared, origin=np.array(branch.origins[rule], dtype=np.uint8))
        if len(found) == self._count:
            width = sum(map(len, prompts[item.index]))
            made = [found[rule] for rule in range(self._count)]
            self.cost.alone += sum(width + self._many.width * (len(one.token_ids) - 1) for one in made)
            emit(item.index, made)
        return True
