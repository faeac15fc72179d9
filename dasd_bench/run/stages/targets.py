"""The targets stage: what each example is trained on, made by the method."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dasd_bench.config.spec import ArmSpec
from dasd_bench.errors import DataError
from dasd_bench.methods import plugin_calls
from dasd_bench.methods.samples import nothing_kept
from dasd_bench.resources.work import Work
from dasd_bench.results.schema import TargetCost
from dasd_bench.run.context import RunContext
from dasd_bench.run.method_context import EngineMethodContext, round_training, train_split
from dasd_bench.run.prompts import Prompts
from dasd_bench.run.sharded import pack, unpack
from dasd_bench.run.stages.base import Stage
from dasd_bench.run.work import makes_own_targets, targets_work
from dasd_bench.store.store import Entry, Finished, Row, parse_ragged, ragged_bytes
from dasd_bench.types import Example, Message, Target

TARGETS = "targets.safetensors"


@dataclass(eq=False)
class Targets(Stage[list[Target]]):
    """An arm's targets. ``data_key`` is the hash of ``examples`` and of the code that made them."""

    own_arm: ArmSpec
    examples: Sequence[Example]
    data_key: str
    no_room: Sequence[str] = ()
    """Ids of the examples whose prompt leaves no room for an answer: no arm is trained on them."""
    deferring: bool = False
    """Stop at a dual decoding that the store lacks, so that it is done with those of other arms."""

    kind = "targets"
    version = 4
    name = "targets"

    @property
    def arm(self) -> ArmSpec:
        return self.own_arm

    @property
    def drawn_with(self) -> int:
        """The seed targets are made with: the arm's where the method draws or trains, else 0, shared by all seeds."""
        method = self.own_arm.method
        return int(self.seed or 0) if method.trains or plugin_calls.draws(method) else 0

    def parts(self) -> Sequence[object]:
        context, arm = self.context, self.own_arm
        if not makes_own_targets(arm.method):
            # Gold answers depend on what turns text into tokens alone: every dtype, device and method shares them.
            return "reference", {"model": context.model.sha256, "template": context.chat.hash}, self.data_key
        return (
            arm.plugin.sha256,
            arm.method.name,
            asdict(arm.method),
            context.model_key,
            context.spec.max_new_tokens,
            self.data_key,
            self.drawn_with,
            *([round_training(arm)] if arm.method.trains else ()),
            *([teacher_facts(context)] if context.teacher_chat is not context.chat or context.chat.thinking else ()),
            *([self._read()] if arm.method.files() or arm.method.other_tasks() else ()),
        )

    def _read(self) -> list[str]:
        """Hashes of the files and tasks that the method reads beside the examples."""
        method = self.own_arm.method
        files = [hashlib.sha256(Path(name).expanduser().read_bytes()).hexdigest() for name in method.files()]
        return [*files, *(train_split(self.context, name)[1] for name in method.other_tasks())]

    def work(self) -> Work:
        return targets_work(self.own_arm.method, self.examples, self.context.spec.max_new_tokens)

    @property
    def cost(self) -> TargetCost:
        """What making the finished targets took."""
        return TargetCost(**self.context.store.finished(self.kind, self.key).meta["cost"])

    def make(self, entry: Entry) -> Row:
        console, started = self.context.console, time.monotonic()
        before = len(console.warnings)
        own = EngineMethodContext(self.context, self.own_arm, self.drawn_with, self.examples, deferring=self.deferring)
        targets = plugin_calls.targets(self.own_arm.method, self.examples, own, self.context.vocabulary_size)
        targets = self._fitting(targets)
        if not targets:
            advice = f"take more rows, other options (dasd-bench show {self.own_arm.method.name}) or an abler model"
            raise nothing_kept(self.label, f"all {len(self.examples)} examples were dropped", advice)
        entry.put(TARGETS, ragged_bytes(*pack_targets(targets)))
        return {
            "method": self.label,
            "targets": len(targets),
            "warnings": console.warnings[before:],
            "cost": asdict(TargetCost(own.generated_tokens, own.round_tokens, time.monotonic() - started)),
        }

    def read(self, entry: Finished) -> list[Target]:
        for warning in entry.meta["warnings"]:
            if warning not in self.context.console.warnings:
                self.context.console.warn(warning)
        return unpack_targets(*parse_ragged(entry.read(TARGETS), entry.path / TARGETS))

    def _fitting(self, targets: list[Target]) -> list[Target]:
        """The targets whose own prompt leaves room for an answer; those of the examples do."""
        prompts = Prompts(self.context)
        fitting = [one for one in targets if one.prompt is None or self.context.fits(prompts.encode(one.prompt))]
        if len(fitting) < len(targets):
            self.context.console.warn(
                f"{self.label}: {len(targets) - len(fitting)} of {len(targets)} targets were left out, since their own "
                f"prompt fills the context of {self.context.context_length} tokens."
            )
        return fitting


def teacher_facts(context: RunContext) -> list[object]:
    """What targets depend on beside the student's template where someone thinks."""
    return [context.teacher_chat.hash, context.spec.thinking.tokens]


COLUMN = "column."
"""What the stored names of a target's columns begin with."""


def pack_targets(targets: Sequence[Target]) -> tuple[dict[str, list[Any]], list[Row]]:
    """Targets as arrays by field and JSON rows; prompts and columns only where there are any."""
    arrays, rows = pack([replace(one, prompt=None, columns={}) for one in targets])
    for name in sorted({name for one in targets for name in one.columns}):
        none = np.zeros(0, dtype=np.float32)
        arrays[f"{COLUMN}{name}"] = [one.columns.get(name, none) for one in targets]
    for row, one in zip(rows, targets, strict=True):
        del row["prompt"], row["columns"]
        if one.prompt is not None:
            row["prompt"] = [asdict(turn) for turn in one.prompt]
    return arrays, rows


def unpack_targets(arrays: dict[str, list[Any]], rows: Sequence[Row]) -> list[Target]:
    """The targets that :func:`pack_targets` took apart."""
    own = {name: values for name, values in arrays.items() if not name.startswith(COLUMN)}
    found = unpack(Target, own, [{name: value for name, value in row.items() if name != "prompt"} for row in rows])
    columns = {name.removeprefix(COLUMN): values for name, values in arrays.items() if name.startswith(COLUMN)}
    return [
        replace(
            one,
            prompt=tuple(Message(**turn) for turn in row["prompt"]) if "prompt" in row else None,
            columns={name: values[number] for name, values in columns.items() if len(values[number])},
        )
        for number, (one, row) in enumerate(zip(found, rows, strict=True))
    ]


def with_room(context: RunContext, examples: Sequence[Example]) -> tuple[list[Example], list[str]]:
    """The examples whose prompt leaves room for an answer, and the ids of the others.

    Raises :class:`DataError` where none is left.
    """
    prompts = Prompts(context)
    fitting = [example for example in examples if context.fits(prompts.ids(example))]
    fitting_ids = {example.id for example in fitting}
    if not fitting:
        raise DataError(
            f"None of the {len(examples)} training prompts fits the model's context of {context.context_length} "
            "tokens; use a model with a longer context."
        )
    return fitting, [example.id for example in examples if example.id not in fitting_ids]
