"""The keys of every stage of a run, computed from the specification and the data alone: the plan needs no weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dasd_bench.config.spec import ArmSpec
from dasd_bench.methods.base import Method
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import TaskData
from dasd_bench.store.atomic import digest
from dasd_bench.store.store import stage_key


@dataclass(frozen=True, slots=True)
class ArmKeys:
    """Keys of one arm with one seed."""

    targets: str
    train: str


def train_data_key(data: list[TaskData]) -> str:
    """The training examples of a run: tasks, their code and the rows used."""
    return digest([(d.name, d.plugin_sha256, d.train_key) for d in data if d.train])


def target_seed(arm: ArmSpec, seed: int) -> int:
    """The seed targets are drawn with: the arm's where the method draws at all, else 0, shared by all seeds."""
    return seed if arm.method.stochastic() else 0


def makes_own_targets(method: Method) -> bool:
    """False where a method trains on the gold answers: such methods share targets and scores."""
    return type(method).make_targets is not Method.make_targets


def targets_key(context: RunContext, arm: ArmSpec, seed: int, data_key: str) -> str:
    """Key of an arm's targets."""
    if not makes_own_targets(arm.method):
        return stage_key("targets", "reference", _text_key(context), data_key)
    return stage_key(
        "targets",
        arm.plugin.sha256,
        arm.method.describe(),
        context.model_key,
        context.spec.max_new_tokens,
        data_key,
        target_seed(arm, seed),
    )


def _text_key(context: RunContext) -> dict[str, Any]:
    """What turns text into tokens: equal for every dtype and device."""
    return {"model": context.model.sha256, "template": context.chat.hash}


def arm_keys(context: RunContext, arm: ArmSpec, seed: int, data_key: str) -> ArmKeys:
    """Keys of one arm with one seed; the adapter's key is the training stage's."""
    targets = targets_key(context, arm, seed, data_key)
    train = stage_key(
        "train",
        targets,
        arm.plugin.sha256,
        arm.method.name,
        arm.method.describe(),
        context.model_key,
        arm.training,
        seed,
    )
    return ArmKeys(targets, train)


def evaluate_key(context: RunContext, data: TaskData, adapter: str | None) -> str:
    """Key of one model's evaluation on one task."""
    spec = context.spec
    return stage_key(
        "evaluate",
        context.model_key,
        adapter,
        data.name,
        data.plugin_sha256,
        data.test_key,
        data.prompt_key,
        spec.chat_template,
    )


def nll_key(context: RunContext, data: TaskData, adapter: str | None) -> str:
    """Key of one model's reference nll on one task; the base's own answers come from its evaluation."""
    base = evaluate_key(context, data, None)
    return stage_key(
        "nll", context.model_key, adapter, data.name, data.plugin_sha256, data.test_key, context.spec.limit, base
    )
