"""The shared trainer: every method's weights through one loop, so that a difference is a difference of method."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psutil
import torch
from torch import nn

from dasd_bench.atomic import digest
from dasd_bench.console import Console
from dasd_bench.errors import TrainingError
from dasd_bench.method import Method
from dasd_bench.training import adapter
from dasd_bench.training.batching import (
    Pack,
    Row,
    TrainExample,
    batches,
    build_row,
    examples_digest,
    make_packs,
    step_count,
)
from dasd_bench.training.checkpoint import Checkpoints, Position, truncate_metrics
from dasd_bench.training.config import TrainingConfig
from dasd_bench.training.loss import Objective, TokenLoss, backward_tokens, denominator_tokens
from dasd_bench.training.model import PackedModel, set_checkpointing
from dasd_bench.training.schedule import learning_rate, make_optimizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["TIMING_FIELDS", "TrainExample", "TrainResult", "train"]

TIMING_FIELDS = ("tokens_per_second", "memory_gib", "seconds")
"""Fields of a line of ``metrics.jsonl`` that differ from one undisturbed run to the next."""

NAMED_EXAMPLES = 8
"""Example ids named in an error at most."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training run gave.

    ``target_tokens`` seen in all steps, masked ones too; ``kept_tokens`` of them with a weight above zero;
    ``seconds`` of training, over all sittings; ``final_loss`` of the last step; ``peak_memory_gib`` of the process
    (of the device where it is a GPU); ``skipped`` ids of examples without any weight; ``truncated`` ids of examples
    whose target was cut at ``max_length``.
    """

    adapter_dir: Path
    steps: int
    target_tokens: int
    kept_tokens: float
    seconds: float
    final_loss: float
    peak_memory_gib: float
    skipped: tuple[str, ...]
    truncated: tuple[str, ...]


def train(
    model: PreTrainedModel,
    examples: Sequence[TrainExample],
    config: TrainingConfig,
    *,
    method: Method,
    seed: int,
    out_dir: Path,
    console: Console,
    max_length: int,
    base_model_name: str = "",
) -> TrainResult:
    """Trains ``model`` (a plain base, freshly loaded, on its device) and writes ``out_dir/adapter`` last.

    The loss of a step is the sum of w_t * nll_t over its examples, divided by its kept tokens (weight above zero,
    after the online rule) or by all its target tokens, as ``method.denominator`` says. ``out_dir/metrics.jsonl`` has
    one line a step. Interrupted and called again with the same arguments it goes on from the newest checkpoint, and
    the adapter is byte for byte that of an undisturbed run on the same machine. The model's weights are changed
    where ``config.lora_rank`` is 0; else it is left with the adapter attached.

    Raises :class:`TrainingError` where nothing can be trained, a LoRA target matches nothing, or the loss diverges.
    """
    rows = _rows(examples, max_length, console)
    fingerprint = digest(
        {k: v for k, v in asdict(config).items() if k not in ("checkpoint_steps", "keep_checkpoints")},
        [method.name, method.denominator, method.describe()],
        [examples_digest(examples), seed, max_length, base_model_name, str(model.dtype), str(model.device.type)],
    )
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), PackedModel(model) as packed:
        torch.manual_seed(seed)
        run = _Run(packed, rows, config, method, seed, out_dir, console, base_model_name, fingerprint)
        try:
            return run.go()
        finally:
            run.close()


def _rows(examples: Sequence[TrainExample], max_length: int, console: Console) -> list[Row]:
    if not examples:
        raise TrainingError("There is no training example; check the train split and the filters of the task.")
    rows = [build_row(example, max_length) for example in examples]
    skipped = [row.example_id for row in rows if not len(row.input_ids)]
    cut = [row.example_id for row in rows if row.truncated]
    if len(skipped) == len(rows):
        raise TrainingError(
            f"No token of the {len(rows)} examples has a weight above zero within {max_length} tokens; "
            "loosen the method's threshold or raise the maximum length."
        )
    if skipped:
        console.warn(f"{len(skipped)} of {len(rows)} examples have no token with a weight and are not trained on.")
    if cut:
        console.warn(f"{len(cut)} of {len(rows)} targets are longer than {max_length} tokens with prompt and were cut.")
    return rows


class _Run:
    """One run's state and its loop."""

    def __init__(
        self,
        packed: PackedModel,
        rows: list[Row],
        config: TrainingConfig,
        method: Method,
        seed: int,
        out_dir: Path,
        console: Console,
        base_model_name: str,
        fingerprint: str,
    ) -> None:
        self.packed, self.rows, self.config, self.method = packed, rows, config, method
        self.seed, self.out_dir, self.console = seed, out_dir, console
        self.model = adapter.attach(packed.model, config, base_model_name)
        self.changed = adapter.accelerate(self.model, dora=config.dora) if config.lora_rank else []
        self.parameters = adapter.trained(self.model)
        self.optimizer = make_optimizer(self.parameters.values(), config)
        self.head = packed.head()
        self.objective = Objective(method.online_weights if method.online else None, method.needs_entropy)
        self.checkpoints = Checkpoints(out_dir / "checkpoints", fingerprint, config.keep_checkpoints)
        self.total = step_count(len(rows), config.batch_size, config.epochs)
        self.memory = _Memory(packed.device)
        self.position = Position()
        if config.gradient_checkpointing:
            set_checkpointing(packed.model, on=True)
        if config.dora and packed.model.dtype != torch.float32:
            console.warn("DoRA on a base that is not float32 loses small updates to rounding; use float32.")
        self.model.train()

    def close(self) -> None:
        """Leaves the model's layers as they were."""
        adapter.restore(self.changed)
        if self.config.gradient_checkpointing:
            set_checkpointing(self.packed.model, on=False)

    def go(self) -> TrainResult:
        """All steps from where the newest checkpoint left off; then the adapter."""
        self.out_dir.mkdir(parents=True, exist_ok=True)
        found = self.checkpoints.load(self.parameters, self.optimizer)
        if self.checkpoints.foreign:
            self.console.warn(f"Checkpoints of other settings in {self.out_dir} were left out; training starts anew.")
            self.checkpoints.clear()
        self.position = found or Position()
        metrics = self.out_dir / "metrics.jsonl"
        truncate_metrics(metrics, self.position.step)
        if found:
            self.console.say(f"Training goes on after step {found.step} of {self.total}.")
        earlier, started = self.position.seconds, time.perf_counter()
        order = batches(len(self.rows), self.config.batch_size, self.config.epochs, self.seed)
        with metrics.open("a", encoding="utf-8") as log, self.console.progress("train", self.total, "steps") as meter:
            meter.advance(self.position.step)
            for step, indices in enumerate(order):
                if step < self.position.step:
                    continue
                began = time.perf_counter()
                line, tokens = self.step(step, [self.rows[i] for i in indices])
                now = time.perf_counter()
                self.position.seconds = earlier + now - started
                line["tokens_per_second"] = round(tokens / (now - began), 1)
                line["memory_gib"] = round(self.memory.last, 4)
                line["seconds"] = round(self.position.seconds, 3)
                log.write(json.dumps(line) + "\n")
                log.flush()
                meter.advance(1, tokens)
                self._checkpoint(log)
        if not self.position.kept_tokens:
            raise TrainingError(
                f"The online rule of '{self.method.name}' gave every token weight 0; nothing was learned."
            )
        target = self.out_dir / "adapter"
        adapter.save(self.model, target)
        self.checkpoints.clear()
        return TrainResult(
            adapter_dir=target,
            steps=self.total,
            target_tokens=self.position.target_tokens,
            kept_tokens=float(self.position.kept_tokens),
            seconds=self.position.seconds,
            final_loss=self.position.loss,
            peak_memory_gib=self.position.peak_memory_gib,
            skipped=tuple(row.example_id for row in self.rows if not len(row.input_ids)),
            truncated=tuple(row.example_id for row in self.rows if row.truncated),
        )

    def step(self, step: int, rows: list[Row]) -> tuple[dict[str, Any], int]:
        """One update on ``rows``; gives its line of metrics and the tokens that went through the model."""
        packs = make_packs(rows, self.config.micro_tokens, together=self.packed.packs)
        loss, kept = 0.0, 0
        for pack in packs:
            part = self.backward(pack, step / self.total)
            if not math.isfinite(part.loss):
                raise self._diverged(step, part.loss, pack.example_ids)
            loss += part.loss
            kept += part.kept
        targets = sum(row.target_tokens for row in rows)
        divisor = denominator_tokens(self.method.denominator, kept, targets)
        mean = loss / divisor if divisor else 0.0
        if mean > self.config.max_loss:
            raise self._diverged(step, mean, tuple(row.example_id for row in rows))
        rate = learning_rate(self.config, step, self.total)
        norm = self._update(rate, divisor, step, rows) if kept else 0.0
        self.position.step = step + 1
        self.position.loss = mean
        self.position.kept_tokens += kept
        self.position.target_tokens += targets
        self.position.peak_memory_gib = max(self.position.peak_memory_gib, self.memory.peak)
        line = {
            "step": step + 1,
            "loss": mean,
            "kept_tokens": kept,
            "all_tokens": targets,
            "grad_norm": norm,
            "lr": rate,
        }
        return line, sum(len(pack.input_ids) for pack in packs)

    def backward(self, pack: Pack, progress: float) -> TokenLoss:
        """Adds the gradient of the pack's summed loss to the parameters."""
        device = self.packed.device
        hidden = self.packed.hidden(
            torch.from_numpy(pack.input_ids).to(device), torch.from_numpy(pack.position_ids).to(device), pack.lengths
        )
        trained = hidden[torch.from_numpy(pack.positions).to(device)]
        self.memory.sample()
        loss, gradient = backward_tokens(
            trained.detach(),
            torch.from_numpy(pack.labels).to(device),
            torch.from_numpy(pack.static).to(device),
            torch.from_numpy(pack.keep).to(device),
            self.head,
            self.objective,
            progress,
        )
        if trained.requires_grad:
            torch.autograd.backward(trained, gradient)
        self.memory.sample()
        return loss

    def _update(self, rate: float, divisor: int, step: int, rows: list[Row]) -> float:
        parameters = list(self.parameters.values())
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_div_(gradients, float(divisor))
        norm = nn.utils.get_total_norm(gradients)
        if not math.isfinite(float(norm)):
            raise self._diverged(step, float(norm), tuple(row.example_id for row in rows), "gradient norm")
        if self.config.grad_clip > 0:
            nn.utils.clip_grads_with_norm_(parameters, self.config.grad_clip, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def _checkpoint(self, log: IO[str]) -> None:
        every, done = self.config.checkpoint_steps, self.position.step
        if every and done % every == 0 and done < self.total:
            os.fsync(log.fileno())
            self.checkpoints.save(self.position, self.parameters, self.optimizer)

    def _diverged(self, step: int, value: float, ids: tuple[str, ...], what: str = "loss") -> TrainingError:
        named = ", ".join(ids[:NAMED_EXAMPLES]) + (
            f" and {len(ids) - NAMED_EXAMPLES} more" if len(ids) > NAMED_EXAMPLES else ""
        )
        return TrainingError(
            f"Training diverged at step {step + 1}: {what} {value:.4g} on examples {named}; lower the learning rate "
            f"(now {self.config.lr:g}) or look at these examples."
        )


class _Memory:
    """Memory in use, sampled where a step's activations are all alive: GiB of the process, or of the GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.last = self.peak = 0.0
        self._process = psutil.Process()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def sample(self) -> None:
        """Takes one sample."""
        if self.device.type == "cuda":
            self.last = torch.cuda.max_memory_allocated(self.device) / 2**30
        else:
            self.last = self._process.memory_info().rss / 2**30
        self.peak = max(self.peak, self.last)
