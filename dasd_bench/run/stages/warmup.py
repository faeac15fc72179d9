"""The warm-up stage: the model is tuned on tasks first, and the run takes the result for its base model.

Its entry in the store holds a model folder like any other. The warmed model's key is the stage's: all that follows
depends on what the warm-up depends on, so every stage can be planned before there are any warmed weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from dasd_bench.config.spec import ArmSpec
from dasd_bench.methods.base import build_method
from dasd_bench.models.files import CONFIG_FILES, TOKENIZER_FILES
from dasd_bench.models.gguf import quiet_transformers
from dasd_bench.resources.work import Work
from dasd_bench.results.directory import ADAPTER_FOLDER
from dasd_bench.results.schema import TrainStats
from dasd_bench.run.adapters import train_adapter, train_examples
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import warmup_examples
from dasd_bench.run.method_context import EngineMethodContext
from dasd_bench.run.stages.base import Stage
from dasd_bench.run.work import train_work
from dasd_bench.store.atomic import remove
from dasd_bench.store.store import Entry, Finished, Row
from dasd_bench.types import Example, TrainingSet

MODEL = "model"


@dataclass(frozen=True, slots=True)
class Warmed:
    """The warmed model's folder, and what training it took."""

    folder: Path
    stats: TrainStats


@dataclass(eq=False)
class WarmUp(Stage[Warmed]):
    """The model of ``context`` tuned on ``examples``, whose hash is ``data_key``."""

    examples: Sequence[Example]
    data_key: str

    kind = "warmup"
    version = 1
    name = "warm-up"

    def parts(self) -> Sequence[object]:
        return self.context.model_key, self.context.spec.warmup.training, self.context.spec.warmup.seed, self.data_key

    def work(self) -> Work:
        return train_work(self.context.spec.warmup.training, self.examples, self.context.context_length)

    def make(self, entry: Entry) -> Row:
        context, warmup = self.context, self.context.spec.warmup
        plugin = context.registry.method("sft")
        arm = ArmSpec(self.name, build_method(plugin.item, {}), plugin, warmup.training)
        own = EngineMethodContext(context, arm, warmup.seed, self.examples)
        targets = [own.reference_target(example) for example in self.examples]
        weights = [np.ones(len(target.token_ids), dtype=np.float32) for target in targets]
        examples = train_examples(context, arm, targets, self.examples, weights, [[]] * len(targets))
        meta = train_adapter(context, arm, warmup.seed, TrainingSet(examples), entry.path)
        trained = entry.path / ADAPTER_FOLDER
        remove(entry.path / MODEL)
        if warmup.lora_rank:
            self._merge(trained, entry.path / MODEL)
            remove(trained)
        else:
            trained.rename(entry.path / MODEL)
        return {"stats": meta["stats"]}

    def _merge(self, adapter: Path, folder: Path) -> None:
        """Writes the base with the adapter folded into its weights, in float32: nothing is rounded away."""
        from dasd_bench.models.load import load_model

        source = self.context.model.path
        model = load_model(source, dtype="fp32", device=self.context.device, adapter=adapter)
        with quiet_transformers():
            model.save_pretrained(folder)
        for name in (*TOKENIZER_FILES, *CONFIG_FILES):
            if (source / name).is_file() and not (folder / name).exists():
                shutil.copyfile(source / name, folder / name)

    def read(self, entry: Finished) -> Warmed:
        return Warmed(entry.path / MODEL, TrainStats(**entry.meta["stats"]))

    def describe(self) -> dict[str, object]:
        """The warm-up for the manifest."""
        return {
            **asdict(self.context.spec.warmup),
            "examples": len(self.examples),
            "data_sha256": self.data_key,
            "source_sha256": self.context.model.sha256,
            "stats": asdict(self.value.stats),
        }


def warmed(context: RunContext) -> RunContext:
    """The context of a run that starts from the warmed model; ``context`` itself where the run has no warm-up."""
    if not context.spec.warmup.tasks:
        return context
    examples, key = warmup_examples(context.spec, context.registry)
    stage = WarmUp(context, None, examples, key)
    model = replace(context.model, sha256=stage.key, source=f"{context.model.source}, warmed up")
    return replace(context, model=model, warmup=stage)
