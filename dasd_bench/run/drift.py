"""The drift stages: what each model writes on held-out prompts, and how far that is from the base.

An adapter's outputs and hidden states are made while its model is loaded; the base meets them afterwards, all arms in
one go. So one model is in memory at a time, and no distribution over the vocabulary is ever stored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dasd_bench.evaluation.retention import spread
from dasd_bench.methods.base import BASE
from dasd_bench.results.schema import Drift, RunResults, SeedArm
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import TaskData
from dasd_bench.run.method_context import StoreLab, score_requests
from dasd_bench.store.store import Entry, Row, load_ragged, save_ragged, stage_key
from dasd_bench.types import Floats

if TYPE_CHECKING:
    from dasd_bench.engine import ScoreRequest
    from dasd_bench.engine.divergence import Head

PROMPTS = 64
"""Held-out prompts in all, drawn evenly from every evaluated task."""

TOKENS = 128
"""Tokens written on each, at most; fewer where ``--max-new-tokens`` is lower."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The prompts as token ids, and the task of each."""

    tasks: list[str]
    prompts: list[list[int]]


@dataclass(frozen=True, slots=True)
class Outputs:
    """One model's greedy outputs on the prompts, and its hidden states on the base's outputs (None for the base)."""

    tokens: list[list[int]]
    hidden: list[Floats] | None


def budget(context: RunContext) -> int:
    """Tokens written on a held-out prompt, at most."""
    return min(TOKENS, context.spec.max_new_tokens or TOKENS)


def held_out(context: RunContext, data: Sequence[TaskData]) -> HeldOut:
    """Test prompts of every evaluated task, evenly, as training and chat see them; too long ones are left out."""
    tested = [one for one in data if one.test]
    lab = StoreLab(context, 0)
    each = max(1, PROMPTS // len(tested))
    length = int(getattr(context.tokenizer, "model_max_length", 0) or 0)
    room = _context_length(context) or (length if length < 10**9 else 2048)
    tasks, prompts = [], []
    for one in tested:
        for example in spread(one.test, each):
            ids = lab.prompt_ids(example)
            if len(ids) + budget(context) < room:
                tasks.append(one.name)
                prompts.append(ids)
    return HeldOut(tasks, prompts)


def _context_length(context: RunContext) -> int | None:
    config = json.loads((context.model.path / "config.json").read_text(encoding="utf-8"))
    found = config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")
    return int(found) if found else None


def make_outputs(
    context: RunContext,
    held: HeldOut,
    adapter: Path | None,
    adapter_key: str | None,
    base_outputs: Sequence[Sequence[int]] | None,
) -> tuple[Outputs, bool]:
    """Greedy outputs of one model, and for an adapter its hidden states along ``base_outputs``."""

    def make(entry: Entry) -> Row:
        from dasd_bench.engine import GenerateRequest

        engine = context.engine(adapter)
        asked = [
            GenerateRequest(ids, budget(context), context.stop_ids, name=f"held-out prompt {number}")
            for number, ids in enumerate(held.prompts)
        ]
        with context.console.progress("held-out outputs", len(asked)) as meter:
            made = engine.generate(asked, on_result=lambda _, done: meter.advance(1, len(done.token_ids)))
        arrays: dict[str, list[np.ndarray]] = {"tokens": [generation.token_ids for generation in made]}
        if base_outputs is not None:
            states = context.distributions(adapter).hidden_states(_requests(held, base_outputs))
            arrays["hidden"] = [state.reshape(-1) for state in states]
        save_ragged(entry.path / "outputs.safetensors", arrays, [{} for _ in made])
        return {"prompts": len(made)}

    key = outputs_key(context, held, adapter_key)
    entry, reused = context.store.get_or_make("outputs", key, make, context.console.say)
    arrays, _ = load_ragged(entry.path / "outputs.safetensors")
    tokens = [array.tolist() for array in arrays["tokens"]]
    hidden = None
    if base_outputs is not None:
        hidden = [array.reshape(len(ids), -1) for array, ids in zip(arrays["hidden"], base_outputs, strict=True)]
    return Outputs(tokens, hidden), reused


def outputs_key(context: RunContext, held: HeldOut, adapter_key: str | None) -> str:
    """Key of one model's outputs; the base's follow from the same prompts."""
    return stage_key("outputs", context.model_key, adapter_key, held.prompts, budget(context))


def measure(
    context: RunContext, held: HeldOut, base: Outputs, own: Outputs, adapter: Path | None, adapter_key: str | None
) -> tuple[Drift, bool]:
    """One model's drift from the base, by the base: see :class:`Drift`. The base's own is the yardstick, at JSD 0."""

    def make(_: Entry) -> Row:
        scores, _reused = score_requests(context, _requests(held, own.tokens), "outputs under the base")
        if own.hidden is None or adapter is None:
            apart = [np.zeros(len(ids), dtype=np.float32) for ids in base.tokens]
        else:
            requests = _requests(held, base.tokens)
            head = _own_head(context, adapter)
            with context.console.progress("divergence", len(requests)) as meter:
                apart = context.distributions().divergence(
                    requests, own.hidden, head, on_result=lambda _, tokens: meter.advance(1, tokens)
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

    key = stage_key("drift", outputs_key(context, held, adapter_key), outputs_key(context, held, None))
    entry, reused = context.store.get_or_make("drift", key, make, context.console.say)
    return Drift(**entry.meta()), reused


def _requests(held: HeldOut, outputs: Sequence[Sequence[int]]) -> list[ScoreRequest]:
    from dasd_bench.engine import ScoreRequest

    return [
        ScoreRequest(prompt, list(ids), name=f"held-out prompt {number}")
        for number, (prompt, ids) in enumerate(zip(held.prompts, outputs, strict=True))
    ]


def _own_head(context: RunContext, adapter: Path) -> Head | None:
    """The adapted model's vocabulary head where its training may have changed it; None where it is the base's."""
    if not changes_head(adapter):
        return None
    from dasd_bench.engine.divergence import OutputHead

    return OutputHead(context.load(adapter))


def changes_head(adapter: Path) -> bool:
    """True where a trained folder holds a vocabulary head of its own: all weights, or LoRA on head or embeddings."""
    config = adapter / "adapter_config.json"
    if not config.exists():
        return True
    targets = json.loads(config.read_text(encoding="utf-8"))["target_modules"]
    return any(name in target for target in targets for name in ("lm_head", "embed"))


@dataclass
class DriftRun:
    """The drift of one run's arms: started with the base loaded, collected arm by arm, measured at the end."""

    context: RunContext
    held: HeldOut
    base: Outputs
    arms: list[tuple[str, SeedArm, Path, str, Outputs]] = field(default_factory=list)

    def collect(self, label: str, arm: SeedArm, train_key: str) -> None:
        """Makes one arm's outputs while its model is loaded."""
        adapter = self.context.store.entry("train", train_key).path / "adapter"
        with self.context.recorder.stage("held-out outputs", label, arm.seed) as stage:
            own, stage.reused = make_outputs(self.context, self.held, adapter, train_key, self.base.tokens)
        self.arms.append((label, arm, adapter, train_key, own))

    def finish(self, results: RunResults) -> None:
        """Measures every model by the base and puts the figures into the results."""
        with self.context.recorder.stage("drift", BASE) as stage:
            results.base_drift, stage.reused = measure(self.context, self.held, self.base, self.base, None, None)
        for label, arm, adapter, key, own in self.arms:
            with self.context.recorder.stage("drift", label, arm.seed) as stage:
                arm.drift, stage.reused = measure(self.context, self.held, self.base, own, adapter, key)


def start_drift(context: RunContext, data: Sequence[TaskData]) -> DriftRun | None:
    """The drift of a run with ``--retention``; None without, or where no prompt leaves room for an answer."""
    if not context.spec.retention:
        return None
    held = held_out(context, data)
    if not held.prompts:
        context.console.warn("No held-out prompt leaves room for an answer: drift is not measured.")
        return None
    with context.recorder.stage("held-out outputs", BASE) as stage:
        base, stage.reused = make_outputs(context, held, None, None, None)
    return DriftRun(context, held, base)
