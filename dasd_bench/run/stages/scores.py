"""The score stage: an arm's targets under the frozen base, and the static weights its method gives their tokens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dasd_bench.config.spec import ArmSpec
from dasd_bench.errors import DasdError, TrainingError
from dasd_bench.methods import plugin_calls
from dasd_bench.resources.work import Work
from dasd_bench.results.targets_file import write_pieces, write_targets
from dasd_bench.run.context import RunContext
from dasd_bench.run.method_context import score_requests
from dasd_bench.run.prompts import Prompts
from dasd_bench.run.stages.base import Stage
from dasd_bench.run.stages.targets import Targets
from dasd_bench.run.work import score_work
from dasd_bench.store.store import Entry, Finished, Row
from dasd_bench.types import Example, ScoredTarget, Target, TokenScores, WeightedTarget, target_names


@dataclass(eq=False)
class Scores(Stage[list[WeightedTarget]]):
    """Targets with token scores and weights.

    The scores themselves are stored by content (see :func:`score_requests`), so that equal targets of two methods are
    scored once; this entry says that they are there.
    """

    targets: Targets
    among: Sequence[Targets] = ()
    """Targets of all arms, where only examples are kept of which all arms accepted one."""

    kind = "scores"
    version = 2
    name = "score"

    @property
    def arm(self) -> ArmSpec:
        return self.targets.own_arm

    def parts(self) -> Sequence[object]:
        return self.targets.key, self.context.model_key, *self.common_parts()

    def work(self) -> Work:
        return score_work(self.targets.examples)

    def needs(self) -> Sequence[Stage[Any]]:
        return (self.targets, *self.among)

    def make(self, entry: Entry) -> Row:
        started = time.monotonic()
        return {"targets": len(self._scores()), "seconds": time.monotonic() - started}

    def common_parts(self) -> Sequence[object]:
        """What the choice of examples adds to a key: nothing where all are kept."""
        return [[one.key for one in self.among]] if self.among else []

    def read(self, entry: Finished) -> list[WeightedTarget]:
        scored = self._weighted()
        if not self.among:
            return scored
        common = accepted_by_all(self.among)
        return [item for item in scored if item.example.id in common]

    def _weighted(self) -> list[WeightedTarget]:
        examples = {example.id: example for example in self.targets.examples}
        return [
            WeightedTarget.of(item, plugin_calls.weights(self.arm.weighing.method, item))
            for item in (
                ScoredTarget(examples[target.example_id], target, scores)
                for target, scores in zip(self._cut()[0], self._scores(), strict=True)
            )
        ]

    @property
    def seconds(self) -> float:
        """What scoring the targets took; 0 where another arm's scores of the same targets were there."""
        return float(self.context.store.finished(self.kind, self.key).meta["seconds"])

    @property
    def cut(self) -> list[str]:
        """Names of the targets that were cut where the context ends."""
        return self._cut()[1]

    def _cut(self) -> tuple[list[Target], list[str]]:
        return cut_targets(self.context, self.targets.value, self.targets.examples)

    def publish(self) -> None:
        if self.among:
            kept, made = len(self.value), len(self.targets.value)
            self.context.console.say(f"[targets {self.label}] {kept} of {made} are on examples common to all")
        folder = self.context.directory.arm(self.arm.folder, int(self.seed or 0))
        write_targets(folder, self.value)
        write_pieces(folder, self.value, self.context.tokenizer)

    def _scores(self) -> list[TokenScores]:
        from dasd_bench.engine.requests import ScoreRequest

        prompts = Prompts(self.context)
        examples = {example.id: example for example in self.targets.examples}
        requests = [
            ScoreRequest(prompts.target_ids(one, examples[one.example_id]), one.token_ids.tolist(), name=one.example_id)
            for one in self._cut()[0]
        ]
        return score_requests(self.context, requests, "score targets")[0]


def accepted_by_all(among: Sequence[Targets]) -> set[str]:
    """Ids of the examples of which every arm has an accepted target; makes the targets that are not made yet.

    Raises :class:`TrainingError` where there is none, or where an arm has no targets.
    """
    found: set[str] | None = None
    for one in among:
        if one.entry.finished() is None:
            try:
                one.run()
            except DasdError as error:
                raise TrainingError(
                    f"--common-accepted needs the targets of every method, and {one.label} has none: {error}"
                ) from error
        own = {target.example_id for target in one.value if target.accepted}
        found = own if found is None else found & own
    if not found:
        raise TrainingError("No example has an accepted target of every method; leave out --common-accepted.")
    return found


def cut_targets(
    context: RunContext, targets: Sequence[Target], examples: Sequence[Example]
) -> tuple[list[Target], list[str]]:
    """The targets, cut where the context ends behind their prompt, and the names of those that were cut."""
    if context.context_length is None:
        return list(targets), []
    prompts = Prompts(context)
    by_id = {example.id: example for example in examples}
    fitting, cut = [], []
    for name, target in zip(target_names(targets), targets, strict=True):
        room = context.context_length - len(prompts.target_ids(target, by_id[target.example_id]))
        if len(target.token_ids) > room:
            cut.append(name)
            ids, proposals = target.token_ids[:room], target.proposals
            target = replace(
                target,
                token_ids=ids,
                origin=target.origin[:room],
                marks=target.marks[:room],
                proposals=None if proposals is None else proposals[:room],
                text=context.tokenizer.decode(ids.tolist(), skip_special_tokens=True),
                columns={column: values[:room] for column, values in target.columns.items()},
            )
        fitting.append(target)
    return fitting, cut
