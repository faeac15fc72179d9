"""The drift stages: what each model writes on held-out prompts, and how far that is from the base.

An adapter's outputs and hidden states are made while its model is loaded; the base meets them afterwards, all arms in
one go. So one model is in memory at a time, and no distribution over the vocabulary is ever stored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dasd_bench.config.spec import ArmSpec
from dasd_bench.evaluation.retention import spread
from dasd_bench.resources.work import Work
from dasd_bench.results.schema import Drift
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import TaskData
from dasd_bench.run.given_adapter import GivenAdapter
from dasd_bench.run.method_context import score_requests
from dasd_bench.run.prompts import Prompts
from dasd_bench.run.stages.base import Stage
from dasd_bench.run.stages.train import Train
from dasd_bench.run.work import drift_work, outputs_work
from dasd_bench.store.store import Entry, Finished, Row, parse_ragged, ragged_bytes
from dasd_bench.types import Floats

if TYPE_CHECKING:
    from dasd_bench.engine.divergence import Head
    from dasd_bench.engine.requests import ScoreRequest

OUTPUTS = "outputs.safetensors"

PROMPTS = 64
"""Held-out prompts in all, drawn evenly from every evaluated task."""

TOKENS = 128
"""Tokens written on each, at most; fewer where ``--max-new-tokens`` is lower."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The prompts as token ids, the task of each, and the tokens written on each at most."""

    tasks: list[str]
    prompts: list[list[int]]
    budget: int


@dataclass(frozen=True, slots=True)
class Outputs:
    """One model's greedy outputs on the prompts, and its hidden states on the base's outputs (None for the base)."""

    tokens: list[list[int]]
    hidden: list[Floats] | None


def held_out(context: RunContext, data: Sequence[TaskData]) -> HeldOut:
    """Test prompts of every evaluated task, evenly, as training and chat see them; too long ones are left out."""
    tested = [one for one in data if one.test]
    chats = Prompts(context)
    budget = min(TOKENS, context.spec.max_new_tokens or TOKENS)
    each = max(1, PROMPTS // len(tested))
    length = int(getattr(context.tokenizer, "model_max_length", 0) or 0)
    room = context.context_length or (length if length < 10**9 else 2048)
    tasks, prompts = [], []
    for one in tested:
        for example in spread(one.test, each):
            ids = chats.ids(example)
            if len(ids) + budget < room:
                tasks.append(one.name)
                prompts.append(ids)
    return HeldOut(tasks, prompts, budget)


@dataclass(eq=False)
class HeldOutOutputs(Stage[Outputs]):
    """Greedy outputs of one model, and for an adapter its hidden states along the outputs of ``base``."""

    held: HeldOut
    train: Train | GivenAdapter | None
    base: HeldOutOutputs | None

    kind = "outputs"
    version = 1
    name = "held-out outputs"

    @property
    def arm(self) -> ArmSpec | GivenAdapter | None:
        return None if self.train is None else self.train.arm

    @property
    def adapter(self) -> Path | None:
        """The adapter that writes; None for the base."""
        return None if self.train is None else self.train.adapter

    def parts(self) -> Sequence[object]:
        # The base's outputs follow from the same prompts.
        train = None if self.train is None else self.train.key
        return self.context.model_key, train, self.held.prompts, self.held.budget

    def work(self) -> Work:
        return outputs_work(self.held.prompts, self.held.budget)

    @property
    def trained(self) -> str | None:
        return None if self.train is None else self.train.key

    def needs(self) -> Sequence[Stage[Any]]:
        return tuple(one for one in (self.train, self.base) if isinstance(one, Stage))

    def make(self, entry: Entry) -> Row:
        from dasd_bench.engine.requests import GenerateRequest

        context, held = self.context, self.held
        asked = [
            GenerateRequest(ids, held.budget, context.stop_ids, name=f"held-out prompt {number}")
            for number, ids in enumerate(held.prompts)
        ]
        with context.console.progress(self.name, len(asked)) as meter:
            made = context.engine(self.adapter).generate(
                asked, on_result=lambda _, done: meter.advance(1, len(done.token_ids))
            )
        arrays: dict[str, list[np.ndarray]] = {"tokens": [generation.token_ids for generation in made]}
        if self.base is not None:
            states = context.distributions(self.adapter).hidden_states(requests(held, self.base.value.tokens))
            arrays["hidden"] = [state.reshape(-1) for state in states]
        entry.put(OUTPUTS, ragged_bytes(arrays, [{} for _ in made]))
        return {"prompts": len(made)}

    def read(self, entry: Finished) -> Outputs:
        arrays, _ = parse_ragged(entry.read(OUTPUTS), entry.path / OUTPUTS)
        hidden = None
        if self.base is not None:
            along = self.base.value.tokens
            hidden = [array.reshape(len(ids), -1) for array, ids in zip(arrays["hidden"], along, strict=True)]
        return Outputs([array.tolist() for array in arrays["tokens"]], hidden)


@dataclass(eq=False)
class MeasureDrift(Stage[Drift]):
    """One model's drift from the base, by the base: see :class:`Drift`. The base's own is the yardstick, at JSD 0."""

    outputs: HeldOutOutputs
    base: HeldOutOutputs

    kind = "drift"
    version = 2
    name = "drift"

    @property
    def arm(self) -> ArmSpec | GivenAdapter | None:
        return self.outputs.arm

    def parts(self) -> Sequence[object]:
        return self.outputs.key, self.base.key

    def work(self) -> Work:
        return drift_work(self.outputs.held.prompts, self.outputs.held.budget)

    def needs(self) -> Sequence[Stage[Any]]:
        return self.outputs, self.base

    def make(self, entry: Entry) -> Row:
        context, held = self.context, self.outputs.held
        own, base = self.outputs.value, self.base.value
        scores, _reused = score_requests(context, requests(held, own.tokens), "outputs under the base")
        if own.hidden is None or self.outputs.adapter is None:
            apart = [np.zeros(len(ids), dtype=np.float32) for ids in base.tokens]
        else:
            head = _own_head(context, self.outputs.adapter)
            asked = requests(held, base.tokens)
            with context.console.progress("divergence", len(asked)) as meter:
                apart = context.distributions().divergence(
                    asked, own.hidden, head, on_result=lambda _, tokens: meter.advance(1, tokens)
                )
        drift = Drift(
            tasks=held.tasks,
            output_nll=[float(-one.logp.astype(np.float64).sum()) for one in scores],
            output_tokens=[len(ids) for ids in own.tokens],
            js_distance=[float(np.sqrt(one.astype(np.float64)).mean()) for one in apart],
            js_divergence=[float(one.astype(np.float64).mean()) for one in apart],
            base_tokens=[len(ids) for ids in base.tokens],
        )
        return asdict(drift)

    def read(self, entry: Finished) -> Drift:
        return Drift(**entry.meta)


def requests(held: HeldOut, outputs: Sequence[Sequence[int]]) -> list[ScoreRequest]:
    """The held-out prompts, each with one of ``outputs``, as score requests."""
    from dasd_bench.engine.requests import ScoreRequest

    return [
        ScoreRequest(prompt, list(ids), name=f"held-out prompt {number}")
        for number, (prompt, ids) in enumerate(zip(held.prompts, outputs, strict=True))
    ]


def _own_head(context: RunContext, adapter: Path) -> Head | None:
    """The adapted model's vocabulary head where its training may have changed it; None where it is the base's."""
    if not changes_head(adapter):
        return None
    from dasd_bench.engine.head import OutputHead

    return OutputHead(context.load(adapter))


def changes_head(adapter: Path) -> bool:
    """True where a trained folder holds a vocabulary head of its own: all weights, or LoRA on head or embeddings."""
    config = adapter / "adapter_config.json"
    if not config.exists():
        return True
    targets = json.loads(config.read_text(encoding="utf-8"))["target_modules"]
    return any(name in target for target in targets for name in ("lm_head", "embed"))
