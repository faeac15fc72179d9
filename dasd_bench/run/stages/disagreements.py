"""What a probe looks at: the ungated rewrites of the examples, and both contexts' view of every token of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from dasd_bench.config.spec import ArmSpec
from dasd_bench.methods.gates import GateFeatures, gate_features
from dasd_bench.resources.work import Work
from dasd_bench.run.context import RunContext
from dasd_bench.run.method_context import EngineMethodContext
from dasd_bench.run.prompts import Prompts
from dasd_bench.run.sharded import Report, pack, run_sharded, unpack
from dasd_bench.run.stages.base import Stage
from dasd_bench.run.work import answers_work, score_work
from dasd_bench.store.atomic import digest
from dasd_bench.store.store import Entry, Finished, Row, parse_ragged, ragged_bytes
from dasd_bench.types import Bytes, Example, Finish, Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor

ROWS = "rows.safetensors"

NAMES = tuple(f.name for f in fields(GateFeatures))
"""The columns of :class:`Views`, one per gate feature."""


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """What a probe does: ``labels`` is ``flip`` or ``constructed``, ``prompt`` the style of the answer-aware prompt.

    Flip test: ``per_example`` of an example's disagreements are tested, drawn with the run's seed (0: all), and
    ``continuation`` is the stream that goes on: see :mod:`dasd_bench.run.stages.flip_test`.
    """

    labels: str = "flip"
    per_example: int = 16
    continuation: str = "base"
    prompt: str = "multi-turn"


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """A text whose tokens are looked at.

    ``token_ids`` int32 [T], the end token included where there is one. ``labels`` uint8 [T] indexes
    :data:`dasd_bench.results.probe.LABELS` plus one, 0 where a token has no label of its own yet. ``source`` says what
    it was made from.
    """

    example_id: str
    token_ids: Ints
    labels: Bytes
    text: str
    finish: Finish
    source: str


@dataclass(frozen=True, slots=True)
class Views:
    """Both contexts' view of one text: ``features`` float32 [T * K], K = ``len(NAMES)``; ``own`` int32 [T], the base's
    likeliest token at each place."""

    features: Floats
    own: Ints

    def column(self, name: str) -> Floats:
        """One feature of every token, float32 [T]."""
        return self.features.reshape(len(self.own), len(NAMES))[:, NAMES.index(name)].copy()

    def gate_features(self) -> GateFeatures:
        """All features, as numpy arrays [T]."""
        return GateFeatures.of({name: self.column(name) for name in NAMES})


class ProbeTargets(Stage[list[ProbeTarget]]):
    """A stage that gives the texts of a probe; empty ones are left out."""

    examples: Sequence[Example]
    data_key: str

    def read(self, entry: Finished) -> list[ProbeTarget]:
        return unpack(ProbeTarget, *parse_ragged(entry.read(ROWS), entry.path / ROWS))


@dataclass(eq=False)
class Rewrites(ProbeTargets):
    """The ungated greedy rewrites of ``examples``: the same engine work as self-distill's and dasd's."""

    examples: Sequence[Example]
    data_key: str
    asking: ArmSpec
    settings: ProbeSettings

    kind = "rewrites"
    version = 1
    name = "rewrites"

    def parts(self) -> Sequence[object]:
        return self.context.model_key, self.context.spec.max_new_tokens, self.data_key, self.settings.prompt

    def work(self) -> Work:
        return answers_work(self.examples)

    def make(self, entry: Entry) -> Row:
        own = EngineMethodContext(self.context, self.asking, 0, self.examples)
        made = own.generate(
            [own.rewrite_prompt(example, self.settings.prompt) for example in self.examples],
            max_new_tokens=[own.new_tokens(example) for example in self.examples],
            label="rewrite",
        )
        found = [
            ProbeTarget(
                example.id, one.token_ids, np.zeros(len(one.token_ids), np.uint8), one.text, one.finish, "rewrite"
            )
            for example, one in zip(self.examples, made, strict=True)
            if len(one.token_ids)
        ]
        entry.put(ROWS, ragged_bytes(*pack(found)))
        return {"rewrites": len(found)}


@dataclass(eq=False)
class TwoContexts(Stage[list[Views]]):
    """Gate features of every token of ``texts``: the base given the question, and given the reference too."""

    texts: ProbeTargets
    prompt: str

    kind = "views"
    version = 1
    name = "two contexts"

    def parts(self) -> Sequence[object]:
        return self.texts.key, self.context.model_key, self.prompt, NAMES

    def work(self) -> Work:
        return score_work(self.texts.examples, contexts=2)

    def make(self, entry: Entry) -> Row:
        found = compare(self.context, self.texts.value, self.texts.examples, self.prompt)
        entry.put(ROWS, ragged_bytes(*pack(found)))
        return {"texts": len(found)}

    def read(self, entry: Finished) -> list[Views]:
        return unpack(Views, *parse_ragged(entry.read(ROWS), entry.path / ROWS))


def compare(context: RunContext, texts: Sequence[ProbeTarget], examples: Sequence[Example], prompt: str) -> list[Views]:
    """Both contexts' view of each text, shard by shard."""
    from dasd_bench.engine.requests import ScoreRequest

    prompts = Prompts(context)
    by_id = {example.id: example for example in examples}
    first, second = [], []
    for one in texts:
        example, ids = by_id[one.example_id], one.token_ids.tolist()
        first.append(ScoreRequest(prompts.ids(example), ids, name=example.id))
        second.append(ScoreRequest(prompts.encode(prompts.rewrite(example, prompt)), ids, name=example.id))
    key = digest(
        "compare", context.model_key, NAMES, [(list(r.prompt_ids), list(r.target_ids)) for r in (*first, *second)]
    )

    def shard(indices: Sequence[int], report: Report) -> list[Views]:
        rows = context.distributions().compare_contexts(
            [first[i] for i in indices],
            [second[i] for i in indices],
            measure,
            on_result=lambda _, tokens: report(1, tokens),
        )
        return [Views(row.reshape(-1), row[:, NAMES.index("own")].astype(np.int32)) for row in rows]

    return run_sharded(
        context.store,
        context.console,
        "compare",
        key,
        Views,
        [len(a.prompt_ids) + len(b.prompt_ids) + 2 * len(a.target_ids) for a, b in zip(first, second, strict=True)],
        shard,
        shard_size=context.shard_size,
        label="two contexts",
    )[0]


def measure(base_logp: Tensor, reference_logp: Tensor, candidate: Tensor) -> Tensor:
    """The gate features of N tokens: float32 [N, K]. A token id is exact in float32 up to 2**24."""
    import torch

    found = gate_features(base_logp, reference_logp, candidate, base_logp.argmax(-1))
    return torch.stack([getattr(found, name).float() for name in NAMES], dim=-1)
