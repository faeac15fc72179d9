"""The stage of labels by construction: edited answers, each changed token known to be a correction or style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dasd_bench.config.spec import ArmSpec
from dasd_bench.methods.edits import constructions, edited_tokens
from dasd_bench.methods.edits.constructed import CORRECTION
from dasd_bench.resources.work import Work
from dasd_bench.results import probe
from dasd_bench.run.method_context import EngineMethodContext
from dasd_bench.run.sharded import pack
from dasd_bench.run.stages.disagreements import ROWS, ProbeTarget, ProbeTargets
from dasd_bench.run.work import answers_work
from dasd_bench.store.store import Entry, Row, ragged_bytes
from dasd_bench.types import Example, Origin


@dataclass(eq=False)
class Constructed(ProbeTargets):
    """Edits of the base's own greedy answers and of the gold ones: see :mod:`dasd_bench.methods.edits.constructed`."""

    examples: Sequence[Example]
    data_key: str
    asking: ArmSpec

    kind = "constructed"
    version = 1
    name = "constructed targets"

    def parts(self) -> Sequence[object]:
        return self.context.model_key, self.context.spec.max_new_tokens, self.data_key

    def work(self) -> Work:
        return answers_work(self.examples)

    def make(self, entry: Entry) -> Row:
        own = EngineMethodContext(self.context, self.asking, 0, self.examples)
        answers = own.generate(
            [own.plain_prompt(example) for example in self.examples],
            max_new_tokens=[own.new_tokens(example) for example in self.examples],
            label="own answer",
        )
        found = []
        for one in constructions(self.examples, [answer.text for answer in answers], own):
            target = own.text_target(one.example, one.edited.after, Origin.GOLD, reason=one.source, accepted=True)
            changed = edited_tokens(one.edited, target.text, own.character_ends(target))
            label = probe.LABELS.index(probe.CORRECTION if one.kind == CORRECTION else probe.STYLE) + 1
            labels = np.append(np.where(changed, label, 0), 0).astype(np.uint8)
            found.append(ProbeTarget(one.example.id, target.token_ids, labels, target.text, "stop", one.source))
        entry.put(ROWS, ragged_bytes(*pack(found)))
        return {"targets": len(found)}
