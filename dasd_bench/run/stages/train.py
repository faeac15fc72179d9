"""The train stage: one adapter from an arm's weighted targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dasd_bench.config.spec import ArmSpec
from dasd_bench.errors import TrainingError
from dasd_bench.methods import plugin_calls
from dasd_bench.resources.work import Work
from dasd_bench.results.directory import ADAPTER_FOLDER, METRICS_FILE
from dasd_bench.results.schema import TrainStats
from dasd_bench.run.adapters import POINTS, held_out_ids, references, train_adapter, train_examples
from dasd_bench.run.artifacts import link_tree
from dasd_bench.run.matching import UNITS, Matching
from dasd_bench.run.method_context import EngineMethodContext
from dasd_bench.run.stages.base import Stage
from dasd_bench.run.stages.scores import Scores
from dasd_bench.run.work import train_work
from dasd_bench.store.atomic import write_bytes
from dasd_bench.store.store import Entry, Finished, Row
from dasd_bench.training.batching import step_count
from dasd_bench.training.pace import MOST_TIMES
from dasd_bench.types import Message, TrainingSet, WeightedTarget, target_names


@dataclass(frozen=True, slots=True)
class SavedPoint:
    """An adapter in the store saved during training, when ``fraction`` of training was done."""

    name: str
    fraction: float
    adapter: Path
    step: int
    target_tokens: int
    kept_tokens: int


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained adapter in the store; ``skipped`` and ``truncated`` are ids of examples. ``points`` by name are the
    adapters saved during training, without those that a run which was stopped early did not reach."""

    adapter: Path
    metrics: Path
    stats: TrainStats
    skipped: list[str]
    truncated: list[str]
    points: dict[str, SavedPoint]


@dataclass(eq=False)
class Train(Stage[Trained]):
    """The adapter of one arm and seed. ``matching`` gives its budget where arms are matched."""

    scores: Scores
    matching: Matching | None = None

    kind = "train"
    version = 3
    name = "train"

    @property
    def arm(self) -> ArmSpec:
        return self.scores.arm

    @property
    def adapter(self) -> Path:
        """Where the adapter lies once the stage is finished."""
        return self.value.adapter

    def run(self) -> None:
        self._warn_of_warmup()
        super().run()

    def parts(self) -> Sequence[object]:
        arm, context = self.arm, self.context
        weighing = arm.weighing
        return (
            self.scores.targets.key,
            weighing.plugin.sha256,
            weighing.method.name,
            asdict(weighing.method),
            context.model_key,
            arm.training,
            self.seed,
            *([] if self.matching is None else [self.matching.budget(self.scores)]),
            *self.scores.common_parts(),
        )

    def needs(self) -> Sequence[Stage[Any]]:
        return (self.scores,) if self.matching is None else tuple(self.matching.arms)

    def work(self) -> Work:
        examples = self.scores.targets.examples
        work = train_work(self.arm.training, examples, self.context.context_length)
        if self.matching is None or not self.matching.known():
            return work
        steps = self._steps()
        return replace(work, steps=steps, read=work.read * steps // max(1, work.steps))

    @cached_property
    def held_out(self) -> frozenset[str]:
        """Ids of the examples that early stopping holds out."""
        return held_out_ids(self.arm, int(self.seed or 0), self.scores.targets.examples)

    def _trained(self) -> list[WeightedTarget]:
        return [item for item in self.scores.value if item.example.id not in self.held_out]

    def _steps(self) -> int:
        """The steps it will take, as far as they can be known before."""
        if self.matching is not None:
            return self.matching.steps(self.scores)
        training = self.arm.training
        return step_count(len(self._trained()), training.batch_size, training.epochs)

    def make(self, entry: Entry) -> Row:
        scored, arm, seed = self._trained(), self.arm, int(self.seed or 0)
        if not scored:
            raise TrainingError(
                f"All {len(self.scores.value)} targets belong to examples that early stopping holds out; lower "
                "training.held_out."
            )
        own = [item.example for item in scored]
        chats: Sequence[Sequence[Sequence[Message]]] = [[]] * len(scored)
        if arm.weighing.method.teacher != "none":
            asked = EngineMethodContext(self.context, arm, seed, own)
            chats = plugin_calls.teacher_prompts(arm.weighing.method, own, asked)
        targets, weights = [item.target for item in scored], [item.weights for item in scored]
        data = TrainingSet(
            train_examples(self.context, arm, targets, own, weights, chats),
            references(self.context, self.scores.targets.examples, self.held_out),
        )
        budget = None if self.matching is None else self.matching.budget(self.scores)
        return train_adapter(self.context, arm, seed, data, entry.path, budget)

    def read(self, entry: Finished) -> Trained:
        meta = entry.meta
        return Trained(
            entry.path / ADAPTER_FOLDER,
            entry.path / METRICS_FILE,
            TrainStats(**meta["stats"]),
            meta["skipped"],
            meta["truncated"],
            {
                point["name"]: SavedPoint(adapter=entry.path / POINTS / point["name"], **point)
                for point in meta["points"]
            },
        )

    def publish(self) -> None:
        folder = self.context.directory.arm(self.arm.folder, int(self.seed or 0))
        link_tree(self.value.adapter, folder.adapter)
        write_bytes(folder.metrics, self.value.metrics.read_bytes())
        for point in self.value.points.values():
            link_tree(point.adapter, folder.point(point.name).adapter)
        self._warn_of_missed_budget()
        count = max(len(self.scores.targets.examples), len(self.scores.value)) + len(self.scores.targets.no_room)
        for reason, ids in self.left_out().items():
            self.context.console.warn(
                f"{self.label} seed {self.seed}: {len(ids)} of {count} training examples were {reason}."
            )

    def left_out(self) -> dict[str, list[str]]:
        """Ids of the examples that were not trained on, or not whole, by reason."""
        found = left_out(self.scores.value, self.value)
        for reason, ids in ((NO_ROOM, self.scores.targets.no_room), (CUT, self.scores.cut)):
            if ids:
                found[reason] = [*ids, *(name for name in found.get(reason, []) if name not in ids)]
        return found

    def _warn_of_warmup(self) -> None:
        """Warns where most steps are warm-up, the first of which changes nothing."""
        steps = self._steps()
        warm = self.arm.training.warmup_steps(steps)
        if 2 * warm > steps:
            effect = "so nothing is learned" if steps == 1 else "so little is learned"
            self.context.console.warn(
                f"{self.label} seed {self.seed}: {warm} of {steps} training steps are warm-up, the first one at "
                f"learning rate 0, {effect}; lower training.warmup or train for more steps."
            )

    def _warn_of_missed_budget(self) -> None:
        stats = self.value.stats
        if self.matching is not None and stats.missed_tokens:
            why = f"after {MOST_TIMES} times its epochs" if stats.best_step is None else "when it was stopped early"
            self.context.console.warn(
                f"{self.label} seed {self.seed}: not matched, {stats.missed_tokens:,} of {stats.budget_tokens:,} "
                f"{UNITS[self.matching.kind]} were left {why}."
            )


NO_WEIGHT = "skipped, because all their weights are 0"
NO_ROOM = "skipped, because no active token fits into the context after their prompt"
CUT = "truncated to the context"


def left_out(targets: Sequence[WeightedTarget], trained: Trained) -> dict[str, list[str]]:
    """Ids of the examples of each reason that occurs; an example has one reason at most."""
    names = target_names([item.target for item in targets])
    weighted = {name for name, item in zip(names, targets, strict=True) if item.weights.any()}
    skipped = set(trained.skipped)
    found = {
        NO_WEIGHT: [name for name in trained.skipped if name not in weighted],
        NO_ROOM: [name for name in trained.skipped if name in weighted],
        CUT: [name for name in trained.truncated if name not in skipped],
    }
    return {reason: ids for reason, ids in found.items() if ids}
