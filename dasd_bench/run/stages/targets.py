"""The targets stage: what each example is trained on, made by the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from dasd_bench.config.spec import ArmSpec
from dasd_bench.errors import DataError, TrainingError
from dasd_bench.methods import plugin_calls
from dasd_bench.methods.base import Method
from dasd_bench.run.context import RunContext
from dasd_bench.run.method_context import StoreLab
from dasd_bench.run.sharded import pack, unpack
from dasd_bench.run.stages.base import Stage, text_tokens
from dasd_bench.store.store import Entry, Finished, Row, parse_ragged, ragged_bytes
from dasd_bench.types import Example, Target

TARGETS = "targets.safetensors"


@dataclass(eq=False)
class Targets(Stage[list[Target]]):
    """An arm's targets. ``data_key`` is the hash of ``examples`` and of the code that made them."""

    own_arm: ArmSpec
    examples: Sequence[Example]
    data_key: str
    no_room: Sequence[str] = ()
    """Ids of the examples whose prompt leaves no room for an answer: no arm is trained on them."""

    kind = "targets"
    version = 3
    name = "targets"

    @property
    def arm(self) -> ArmSpec:
        return self.own_arm

    @property
    def drawn_with(self) -> int:
        """The seed targets are drawn with: the arm's where the method draws at all, else 0, shared by all seeds."""
        return int(self.seed or 0) if plugin_calls.draws(self.own_arm.method) else 0

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
        )

    def tokens(self) -> int:
        if not makes_own_targets(self.own_arm.method):
            return 0
        return 2 * sum(text_tokens(example.reference) for example in self.examples)

    def make(self, entry: Entry) -> Row:
        console = self.context.console
        before = len(console.warnings)
        lab = StoreLab(self.context, self.drawn_with, self.own_arm.plugin.sha256)
        targets = plugin_calls.targets(self.own_arm.method, self.examples, lab, self.context.vocabulary_size)
        if not targets:
            raise TrainingError(f"Method '{self.label}' made no targets, because it dropped every example.")
        entry.put(TARGETS, ragged_bytes(*pack(targets)))
        return {"method": self.label, "targets": len(targets), "warnings": console.warnings[before:]}

    def read(self, entry: Finished) -> list[Target]:
        for warning in entry.meta["warnings"]:
            if warning not in self.context.console.warnings:
                self.context.console.warn(warning)
        return unpack(Target, *parse_ragged(entry.read(TARGETS), entry.path / TARGETS))


def makes_own_targets(method: Method) -> bool:
    """False where a method trains on the gold answers: such methods share targets and scores."""
    return type(method).make_targets is not Method.make_targets


def with_room(context: RunContext, examples: Sequence[Example]) -> tuple[list[Example], list[str]]:
    """The examples whose prompt leaves room for an answer, and the ids of the others.

    Raises :class:`DataError` where none is left.
    """
    lab = StoreLab(context, 0)
    fitting = [example for example in examples if context.fits(lab.prompt_ids(example))]
    fitting_ids = {example.id for example in fitting}
    if not fitting:
        raise DataError(
            f"None of the {len(examples)} training prompts fits the model's context of {context.context_length} "
            "tokens; use a model with a longer context."
        )
    return fitting, [example.id for example in examples if example.id not in fitting_ids]
