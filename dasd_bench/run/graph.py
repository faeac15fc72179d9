"""The stage graph of a run: every stage as an object, in the order in which one machine works them off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dasd_bench.config.spec import ArmSpec
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import TaskData, all_train
from dasd_bench.run.given_adapter import GivenAdapter
from dasd_bench.run.matching import UNITS, Matching
from dasd_bench.run.stages.base import Stage
from dasd_bench.run.stages.drift import HeldOutOutputs, MeasureDrift, held_out
from dasd_bench.run.stages.evaluate import Evaluate
from dasd_bench.run.stages.reference_nll import NllOfReferences
from dasd_bench.run.stages.scores import Scores
from dasd_bench.run.stages.targets import Targets, with_room
from dasd_bench.run.stages.train import Train
from dasd_bench.run.stages.warmup import WarmUp
from dasd_bench.store.atomic import digest


@dataclass(slots=True)
class ModelStages:
    """The stages that measure one model: by task its evaluation and, but for retention sets, its reference nll."""

    evaluations: dict[str, Evaluate] = field(default_factory=dict)
    nlls: dict[str, NllOfReferences] = field(default_factory=dict)
    outputs: HeldOutOutputs | None = None
    drift: MeasureDrift | None = None

    def measured(self) -> Iterator[Stage[Any]]:
        """Task by task: evaluation, then nll; the outputs that drift is measured on last."""
        for name in self.evaluations:
            yield from self.measured_on(name)
        if self.outputs is not None:
            yield self.outputs

    def measured_on(self, task: str) -> Iterator[Stage[Any]]:
        """The stages of one task."""
        yield self.evaluations[task]
        if task in self.nlls:
            yield self.nlls[task]

    def drop_task(self, task: str) -> None:
        """Leaves out a task."""
        del self.evaluations[task]
        self.nlls.pop(task, None)


@dataclass(slots=True)
class ArmStages:
    """One arm with one seed."""

    arm: ArmSpec
    seed: int
    targets: Targets
    scores: Scores
    train: Train
    model: ModelStages
    points: dict[str, list[Evaluate]] = field(default_factory=dict)
    """The evaluations of each adapter saved during training, by its name."""

    @property
    def who(self) -> str:
        """``dasd seed 0``."""
        return f"{self.arm.label} seed {self.seed}"

    def prepared(self) -> tuple[Stage[Any], ...]:
        """What the base model makes for this arm."""
        return self.targets, self.scores

    def training(self) -> tuple[Stage[Any], ...]:
        """Its training."""
        return (self.train,)

    def measured(self) -> Iterator[Stage[Any]]:
        """All that is measured with its adapter loaded, and the adapters saved during training."""
        yield from self.model.measured()
        yield from self._intermediate()

    def _intermediate(self) -> Iterator[Evaluate]:
        for evaluations in self.points.values():
            yield from evaluations

    def release(self) -> None:
        """Lets the arm's targets, scores and answers go from memory; drift still needs the outputs."""
        for stage in (*self.prepared(), self.train, *self.model.evaluations.values(), *self._intermediate()):
            stage.release()


@dataclass(slots=True)
class AdapterStages:
    """One adapter that was trained elsewhere: it is only measured."""

    arm: GivenAdapter
    model: ModelStages
    seed: int = 0

    @property
    def who(self) -> str:
        """Its name."""
        return self.arm.label

    def prepared(self) -> tuple[Stage[Any], ...]:
        """Nothing: it needs no targets."""
        return ()

    def training(self) -> tuple[Stage[Any], ...]:
        """Nothing."""
        return ()

    def measured(self) -> Iterator[Stage[Any]]:
        """All that is measured with the adapter loaded."""
        yield from self.model.measured()

    def release(self) -> None:
        """Lets its answers go from memory."""
        for stage in self.model.evaluations.values():
            stage.release()


@dataclass(slots=True)
class Graph:
    """All stages of a run.

    The warm-up, where there is one, makes the base model. The base model works first (targets, scores, its own
    evaluation), then each arm trains and is evaluated, and at last the base meets what the arms wrote: one model is in
    memory at a time. With ``train_first`` all arms train before anything is evaluated: one engine can then serve the
    base and all adapters, where starting an engine takes minutes (vLLM).
    """

    base: ModelStages
    arms: list[ArmStages | AdapterStages]
    train_first: bool = False
    matchings: list[Matching] = field(default_factory=list)
    """One for each seed where the budget is matched."""
    warmup: WarmUp | None = None

    def walk(self) -> Iterator[Stage[Any]]:
        """Every stage in the order of a run."""
        if self.warmup is not None:
            yield self.warmup
        for one in self.arms:
            yield from one.prepared()
        if self.train_first:
            for one in self.arms:
                yield from one.training()
        yield from self.base.measured()
        for one in self.arms:
            if not self.train_first:
                yield from one.training()
            yield from one.measured()
        yield from self.drifts()

    def drop_task(self, task: str) -> None:
        """Leaves a task out of what is still to be measured; its training rows stay."""
        for model in (self.base, *(one.model for one in self.arms)):
            model.drop_task(task)
        for one in self.arms:
            if isinstance(one, ArmStages):
                one.points = {
                    name: [evaluation for evaluation in found if evaluation.data.name != task]
                    for name, found in one.points.items()
                }

    def drifts(self) -> Iterator[Stage[Any]]:
        """The drift stages, the base's first."""
        for model in (self.base, *(one.model for one in self.arms)):
            if model.drift is not None:
                yield model.drift


def build_graph(context: RunContext, data: Sequence[TaskData]) -> Graph:
    """The stages of a run over loaded ``data``; loads no weights and computes nothing."""
    tested = [one for one in data if one.test]
    held = held_out(context, tested) if context.spec.retention else None
    if held is not None and not held.prompts:
        context.console.warn("No held-out prompt leaves room for an answer in the context, so drift is not measured.")
        held = None
    base = ModelStages()
    for one in tested:
        evaluation = base.evaluations[one.name] = Evaluate(context, None, one, None)
        if not one.retention:
            base.nlls[one.name] = NllOfReferences(context, None, evaluation, evaluation)
    if held is not None:
        base.outputs = HeldOutOutputs(context, None, held, None, None)
        base.drift = MeasureDrift(context, None, base.outputs, base.outputs)
    examples, no_room = with_room(context, all_train(data)) if context.arms else ([], [])
    data_key = digest([(one.name, one.plugin_sha256, one.train_key) for one in data if one.train])

    def measured(train: Train | GivenAdapter, seed: int | None) -> ModelStages:
        model = ModelStages()
        for one in tested:
            evaluation = model.evaluations[one.name] = Evaluate(context, seed, one, train)
            if not one.retention:
                model.nlls[one.name] = NllOfReferences(context, seed, evaluation, base.evaluations[one.name])
        if held is not None and base.outputs is not None:
            model.outputs = HeldOutOutputs(context, seed, held, train, base.outputs)
            model.drift = MeasureDrift(context, seed, model.outputs, base.outputs)
        return model

    arms: list[ArmStages | AdapterStages] = []
    matched = context.spec.budget in UNITS
    matchings = {seed: Matching(context, seed, context.spec.budget) for seed in context.spec.seeds if matched}
    made = {
        (arm.label, seed): Targets(context, seed, arm, examples, data_key, no_room)
        for arm in context.arms
        for seed in context.spec.seeds
    }
    for arm in context.arms:
        for seed in context.spec.seeds:
            targets = made[arm.label, seed]
            among = [made[one.label, seed] for one in context.arms] if context.spec.common_accepted else []
            scores = Scores(context, seed, targets, among)
            train = Train(context, seed, scores, matchings.get(seed))
            if matched:
                matchings[seed].arms.append(scores)
            points = {
                name: [Evaluate(context, seed, one, train, name) for one in tested if not one.retention]
                for name in arm.training.points.values()
            }
            arms.append(ArmStages(arm, seed, targets, scores, train, measured(train, seed), points))
    arms += [AdapterStages(adapter, measured(adapter, None)) for adapter in context.adapters]
    return Graph(base, arms, context.spec.engine.backend == "vllm", list(matchings.values()), context.warmup)
