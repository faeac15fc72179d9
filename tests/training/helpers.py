"""Tiny examples, the rules of the methods under test, and the naive trainer they are held against."""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from dasd_bench.config.training import TrainingConfig
from dasd_bench.console import Console
from dasd_bench.methods.base import Method
from dasd_bench.methods.context import LiveTokens
from dasd_bench.resources.fit import TrainingFit
from dasd_bench.training.batching import batches, step_count
from dasd_bench.training.pace import TokenBudget
from dasd_bench.training.trainer import TrainExample, TrainResult, train
from tests.tiny_models import Kind, tiny_model

TAU = 0.002


@dataclass(frozen=True)
class Sft(Method):
    name = "sft"
    summary = "plain"


@dataclass(frozen=True)
class SftAll(Method):
    name = "sft-all"
    summary = "masked tokens count in the denominator"
    denominator = "all"


@dataclass(frozen=True)
class ProfitAll(Method):
    """1[p > tau] over all label tokens (arXiv 2601.09195, eq. 4 and 5)."""

    name = "profit-all"
    summary = "profit"
    online = True
    denominator = "all"
    tau: float = TAU

    def online_weights(self, live: LiveTokens) -> Tensor:
        return (live.logp.exp() > self.tau).float()


@dataclass(frozen=True)
class ProfitKept(ProfitAll):
    name = "profit-kept"
    denominator = "kept"


@dataclass(frozen=True)
class Dft(Method):
    """sg(p) (arXiv 2508.05629)."""

    name = "dft"
    summary = "dft"
    online = True

    def online_weights(self, live: LiveTokens) -> Tensor:
        return live.logp.exp()


@dataclass(frozen=True)
class Idft(Method):
    """sg(p^gamma), gamma = clip(exp(-(log p + H)), .1, 2) (arXiv 2602.12222)."""

    name = "idft"
    summary = "idft"
    online = True
    needs_entropy = True

    def online_weights(self, live: LiveTokens) -> Tensor:
        assert live.entropy is not None
        gamma = torch.exp(-(live.logp + live.entropy)).clamp(0.1, 2.0)
        return torch.exp(gamma * live.logp)


RULES: dict[str, Method] = {m.name: m for m in (Sft(), SftAll(), ProfitAll(), ProfitKept(), Dft(), Idft())}


def make_examples(
    count: int, seed: int = 0, *, vocabulary: int = 300, masked: float = 0.3, keep_end: bool = False, longest: int = 24
) -> list[TrainExample]:
    """Random rows of unlike length; a share of the tokens has weight 0, as STM gives them."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        prompt = rng.integers(10, vocabulary, rng.integers(1, longest)).astype(np.int32)
        target = rng.integers(10, vocabulary, rng.integers(2, longest)).astype(np.int32)
        weights = (rng.random(len(target)) >= masked).astype(np.float32)
        weights[0] = 1.0
        keep = np.zeros(len(target), dtype=np.bool_)
        keep[-1] = keep_end
        rows.append(TrainExample(f"t/train/{i}", prompt, target, weights, keep))
    return rows


BASE = TrainingConfig(
    epochs=1, batch_size=4, lr=1e-3, warmup=0.0, schedule="constant", lora_rank=4, lora_alpha=8.0, checkpoint_steps=0
)


def live_tokens(logp: Tensor, entropy: Tensor | None = None, **fields: Any) -> LiveTokens:
    """Tokens of one target, each with weight 1 and none protected, unless ``fields`` say otherwise."""
    place = torch.arange(len(logp))
    plain = {"static": torch.ones(len(logp)), "keep": torch.zeros(len(logp), dtype=torch.bool), "progress": 0.0}
    return LiveTokens(logp, entropy, **{**plain, "row": place * 0, "position": place, **fields})


def soft_model(kind: Kind) -> Any:
    """A tiny model whose probabilities lie around one in the vocabulary, so that thresholds cut through the middle."""
    model = tiny_model(kind)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(0.3)
    return model


def quiet() -> Console:
    return Console(stream=io.StringIO())


def run(
    model: Any,
    examples: Sequence[TrainExample],
    out: Path,
    method: Method | None = None,
    *,
    seed: int = 0,
    max_length: int = 512,
    console: Console | None = None,
    held_out: Sequence[TrainExample] = (),
    budget: TokenBudget | None = None,
    fit: TrainingFit | None = None,
    **changes: Any,
) -> TrainResult:
    return train(
        model,
        examples,
        replace(BASE, **changes),
        method=method or Sft(),
        seed=seed,
        out_dir=out,
        console=console or quiet(),
        max_length=max_length,
        base_model_name="org/base",
        held_out=held_out,
        budget=budget,
        fit=fit,
    )


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def naive_weight(name: str, logits: Tensor, label: int) -> float:
    """The rules once more, from the papers, for one position's logits [V], in float64."""
    p = torch.softmax(logits.double(), dim=-1)
    py = float(p.detach()[label])
    if name in ("sft", "sft-all"):
        return 1.0
    if name.startswith("profit"):
        return 1.0 if py > TAU else 0.0
    if name == "dft":
        return py
    entropy = float(-(p * p.log()).sum())
    gamma = min(2.0, max(0.1, math.exp(-(math.log(py) + entropy))))
    return py**gamma


def naive_losses(model: Any, examples: Sequence[TrainExample], method: Method, config: TrainingConfig) -> list[float]:
    """Loss per step of the simplest possible trainer: plain peft, one example at a time, whole logits, plain AdamW."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lora = LoraConfig(
            r=config.lora_rank,
            lora_alpha=int(config.lora_alpha),
            target_modules="all-linear",
            use_rslora=config.rslora,
            use_dora=config.dora,
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            adapted = get_peft_model(model, lora)
    parameters = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.lr, weight_decay=config.weight_decay, foreach=False, fused=False
    )
    losses = []
    assert step_count(len(examples), config.batch_size, config.epochs) > 1
    for indices in batches(len(examples), config.batch_size, config.epochs, 0):
        numerator = torch.zeros((), dtype=torch.float64)
        kept = total = 0
        for i in indices:
            e = examples[i]
            ids = torch.tensor(np.concatenate([e.prompt_ids, e.target_ids]), dtype=torch.long)
            logits = adapted(input_ids=ids[None]).logits[0]
            for t, label in enumerate(e.target_ids):
                row = logits[len(e.prompt_ids) + t - 1]
                weight = float(e.weights[t]) * naive_weight(method.name, row.detach(), int(label))
                if e.keep[t]:
                    weight = max(weight, float(e.weights[t]))
                numerator = numerator - weight * torch.log_softmax(row.double(), dim=-1)[int(label)]
                kept += weight > 0
                total += 1
        loss = numerator / (kept if method.denominator == "kept" else total)
        optimizer.zero_grad()
        loss.backward()
        if config.grad_clip:
            torch.nn.utils.clip_grad_norm_(parameters, config.grad_clip)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses
