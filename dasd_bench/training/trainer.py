"""The shared trainer: every method's weights through one loop, so that a difference is a difference of method."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dasd_bench.config.training import TrainingConfig
from dasd_bench.console import Console
from dasd_bench.engine.allocator import keep_freed_memory
from dasd_bench.errors import TrainingError
from dasd_bench.files.jsonl import dump_rows
from dasd_bench.methods.base import Method
from dasd_bench.resources.fit import TrainingFit
from dasd_bench.results.directory import ADAPTER_FOLDER, METRICS_FILE
from dasd_bench.store.atomic import digest
from dasd_bench.training import adapter
from dasd_bench.training.batching import (
    Pack,
    Row,
    batch_order,
    build_row,
    check_alike,
    check_tokens,
    empty_pack,
    examples_digest,
    make_packs,
    numbered,
    share,
)
from dasd_bench.training.checkpoint import Checkpoints, Position, truncate_metrics
from dasd_bench.training.checks import check_rollouts, check_teacher
from dasd_bench.training.distributed import Processes
from dasd_bench.training.fsdp import Weights, shard
from dasd_bench.training.loss import TokenLoss, divisor
from dasd_bench.training.memory import Memory
from dasd_bench.training.model import PackedModel, set_checkpointing
from dasd_bench.training.pace import TOKENS, Amount, Pace, TokenBudget
from dasd_bench.training.passes import Passes
from dasd_bench.training.rollouts import Decoding, Rollouts
from dasd_bench.training.schedule import learning_rate, make_optimizer
from dasd_bench.training.targets import ALL_LINEAR, untrained_sentence
from dasd_bench.training.teacher import make_teacher
from dasd_bench.types import TrainExample

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["TIMING_FIELDS", "Point", "TrainExample", "TrainResult", "train"]

TIMING_FIELDS = ("tokens_per_second", "memory_gib", "seconds")
"""Fields of a line of ``metrics.jsonl`` that differ from one undisturbed run to the next."""

NAMED_EXAMPLES = 8
"""Example ids named in an error at most."""


@dataclass(frozen=True, slots=True)
class Point:
    """An adapter saved during training, in ``points/<name>`` of the output folder: after ``step`` steps, the first at
    which ``fraction`` of training was done. Both counts are those of :class:`TrainResult` until then."""

    name: str
    fraction: float
    step: int
    target_tokens: int
    kept_tokens: int


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training run gave.

    ``target_tokens`` seen in all steps, masked ones too; ``kept_tokens`` of them with a weight above zero; ``nll``,
    the unweighted mean over all steps' tokens with a static weight, in nats; ``clipped_steps``, those whose gradient
    norm was above the limit; ``generated_tokens`` drawn while training; ``seconds`` of training, over all sittings;
    ``final_loss`` of the last step; ``peak_memory_gib`` that training took (see :class:`Memory`), in the largest
    process where there are several; ``skipped`` ids of examples without any weight within ``max_length``;
    ``truncated`` ids of examples whose target was cut there. With early stopping ``held_out`` are the ids of the
    held-out references, ``best_step`` the step whose weights were kept and ``best_loss`` its held-out nll. ``missed``
    tokens were left of the budget; ``points`` are the adapters saved during training.
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
    nll: float = 0.0
    clipped_steps: int = 0
    generated_tokens: int = 0
    held_out: tuple[str, ...] = ()
    best_step: int | None = None
    best_loss: float | None = None
    missed: int = 0
    points: tuple[Point, ...] = ()


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
    processes: Processes | None = None,
    sharded: bool = False,
    memory: Memory | None = None,
    decoding: Decoding | None = None,
    init: Path | None = None,
    held_out: Sequence[TrainExample] = (),
    budget: TokenBudget | None = None,
    fit: TrainingFit | None = None,
) -> TrainResult:
    """Trains ``model`` (a plain base, freshly loaded, on its device) and writes ``out_dir/adapter`` last.

    The loss of a step is the sum of w_t * nll_t over its examples, divided by its kept tokens (weight above zero,
    after the online rule) or by all its target tokens, or it is the mean over its rows of the mean over a row's kept
    tokens, as ``method.denominator`` says. ``out_dir/metrics.jsonl`` has one line a step. Interrupted and called again
    with the same arguments it goes on from the newest checkpoint, and the adapter is byte for byte that of an
    undisturbed run on the same machine. The model's weights are changed where ``config.lora_rank`` is 0; else it is
    left with the adapter attached.

    ``decoding`` is for methods that draw targets from the live model.

    ``held_out`` serves early stopping: the mean nll of its targets, times their weights, is what must fall. It is the
    caller's to see that nothing of it is among ``examples``. ``budget`` stands in the place of the epochs.

    The adapter begins with the weights of the one in the folder ``init``, where it is given.

    ``fit`` says how to stay within the memory there is; it is no part of a checkpoint's settings. Without it training
    runs as ``config`` has it, on packed weights where they exist.

    ``memory`` was made before the model was loaded, so that the model counts in the peak; without it, it does not.

    Where ``processes`` are several, each calls this with the same arguments and a model of its own; they share out
    every batch and end with the same weights. With ``sharded`` they cut the layers among them (FSDP), and the model may
    come on the CPU. Neither changes the loss beyond rounding, nor the checkpoints' format.

    Raises :class:`TrainingError` where nothing can be trained, a LoRA target matches nothing, or the loss diverges.
    """
    keep_freed_memory()
    processes = processes or Processes(device=model.device)
    memory = memory or Memory(processes.device)
    check_teacher(method, config)
    check_rollouts(method, sharded=sharded)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    rows = _rows(examples, max_length, vocabulary, taught=method.teacher != "none")
    fingerprint = digest(
        {k: v for k, v in asdict(config).items() if k not in ("checkpoint_steps", "keep_checkpoints")},
        [method.name, method.denominator, method.scope, method.teacher, asdict(method)],
        [examples_digest(examples), seed, max_length, base_model_name, str(model.dtype), processes.device.type],
        *([] if init is None else [init.parent.name]),
        [examples_digest(held_out), budget],
    )
    devices = [processes.device] if processes.device.type == "cuda" else []
    if fit is not None:
        config = fit.applied(config)
    packs = fit is None or fit.packed
    with torch.random.fork_rng(devices=devices), PackedModel(model) as packed:
        torch.manual_seed(seed)
        job = _Job(
            config,
            method,
            seed,
            out_dir,
            console,
            base_model_name,
            fingerprint,
            processes,
            sharded,
            memory,
            budget,
            packs,
            init,
        )
        run = _Run(packed, rows, _held_out_rows(held_out, config, max_length, vocabulary), job)
        if method.rollouts:
            assert decoding is not None
            run.rollouts = Rollouts(method, run.model, decoding, processes, seed, max_length)
            run.examples = examples
        try:
            return run.train()
        finally:
            run.close()


def _rows(examples: Sequence[TrainExample], max_length: int, vocabulary: int, *, taught: bool) -> list[Row]:
    if not examples:
        raise TrainingError("There are no training examples; check the train split and the filters of the task.")
    check_alike(examples)
    check_tokens(examples, vocabulary)
    rows = [
        replace(build_row(example, max_length, taught=taught), source=place) for place, example in enumerate(examples)
    ]
    if not any(len(row.input_ids) for row in rows):
        raise TrainingError(
            f"No token of the {len(rows)} examples has a weight above zero within {max_length} tokens; "
            "relax the method's threshold or raise the maximum length."
        )
    return rows


def _held_out_rows(
    examples: Sequence[TrainExample], config: TrainingConfig, max_length: int, vocabulary: int
) -> list[Row]:
    """The rows that early stopping measures; none where it is off."""
    if not config.early_stop_patience:
        return []
    check_tokens(examples, vocabulary)
    rows = [build_row(example, max_length) for example in examples]
    if not any(len(row.input_ids) for row in rows):
        raise TrainingError(
            f"Early stopping needs held-out examples, but none of {len(rows)} fits into {max_length} tokens; "
            "disable it, or raise training.held_out."
        )
    return rows


@dataclass(frozen=True, slots=True)
class _Job:
    """What a training run is asked for; ``fingerprint`` tells its checkpoints from those of other settings."""

    config: TrainingConfig
    method: Method
    seed: int
    out_dir: Path
    console: Console
    base_model_name: str
    fingerprint: str
    processes: Processes
    sharded: bool
    memory: Memory
    budget: TokenBudget | None
    packs: bool
    init: Path | None = None


class _Run:
    """One run's state and its loop."""

    def __init__(self, packed: PackedModel, rows: list[Row], held_out: list[Row], job: _Job) -> None:
        config, method, seed, console, processes = job.config, job.method, job.seed, job.console, job.processes
        self.packed, self.config, self.method = packed, config, method
        self.seed, self.out_dir, self.console = seed, job.out_dir, console
        self.processes, self.sharded = processes, job.sharded
        self.rows, self.held_out = rows, held_out
        self.model = adapter.attach(packed.model, config, job.base_model_name, job.init)
        if config.lora_rank and config.lora_targets.strip() == ALL_LINEAR and (left := untrained_sentence(self.model)):
            console.warn(left)
        if config.gradient_checkpointing:
            set_checkpointing(packed.model, on=True)
        if job.sharded:
            shard(packed.model, packed.body, processes)
            packed.device = processes.device
        self.changed = adapter.accelerate(self.model, dora=config.dora, pack=job.packs) if config.lora_rank else []
        self.weights = Weights(self.model, processes)
        self.optimizer = make_optimizer(self.weights.own.values(), config)
        self.teacher = make_teacher(method, packed, self.model, self.weights)
        self.passes = Passes(packed, self.model, method, self.teacher, processes, job.memory)
        self.checkpoints = Checkpoints(
            job.out_dir / "checkpoints", job.out_dir / METRICS_FILE, job.fingerprint, config.keep_checkpoints
        )
        by_rule = job.budget is not None and job.budget.kind == TOKENS and method.online
        amounts = [Amount(len(row.labels), row.target_tokens) for row in rows]
        self.pace = Pace(amounts, config, seed, job.budget, live=method.rollouts or by_rule)
        self.memory = job.memory
        self.position = Position()
        self.best: dict[str, Tensor] = {}
        self.rollouts: Rollouts | None = None
        self.examples: Sequence[TrainExample] = ()
        if packed.model.dtype != torch.float32 and (rounds := adapter.rounds_twice(self.model, dora=config.dora)):
            console.warn(f"{rounds} on a base that is not float32 loses small updates to rounding; use float32.")
        self.model.train()

    def close(self) -> None:
        """Leaves the model's layers as they were."""
        adapter.restore(self.changed)
        if self.config.gradient_checkpointing:
            set_checkpointing(self.packed.model, on=False)

    def train(self) -> TrainResult:
        """All steps from where the newest checkpoint left off; then the adapter."""
        self._resume()
        earlier, started = self.position.seconds, time.perf_counter()
        order = batch_order(len(self.rows), self.config.batch_size, self.seed)
        with self._log() as log, self.console.progress("train", self._total, "steps") as meter:
            meter.go_on(self.position.step)
            for step, indices in enumerate(order):
                if step < self.position.step:
                    continue
                if self.pace.done(self.position):
                    break
                began = time.perf_counter()
                line, tokens = self.step(step, numbered([self.rows[i] for i in indices]))
                now = time.perf_counter()
                self.position.seconds = earlier + now - started
                line["tokens_per_second"] = round(tokens / (now - began), 1)
                line["memory_gib"] = round(self.memory.last, 4)
                line["seconds"] = round(self.position.seconds, 3)
                stop = self._check_early_stop(line)
                log.write(dump_rows([line]))
                log.flush()
                meter.total = self._total
                meter.advance(1, tokens)
                self._save_points()
                if stop:
                    break
                self._checkpoint(log)
        if not self.position.kept_tokens:
            raise TrainingError(
                f"The online rule of '{self.method.name}' gave every token weight 0, so nothing was learned."
            )
        return self._finish()

    def _resume(self) -> None:
        """Loads the newest checkpoint, which the first process chooses for all."""
        metrics = self.out_dir / METRICS_FILE
        found: Path | None = None
        if self.processes.first:
            self.out_dir.mkdir(parents=True, exist_ok=True)
            found = self.checkpoints.newest()
        found = self.processes.agree(found)
        if found is not None:
            self.position, state = self.checkpoints.load(found)
            self.weights.load(state["parameters"])
            self.weights.load_optimizer(self.optimizer, state["optimizer"])
            self.best = {name: self.weights.part(name, whole) for name, whole in state["best"].items()}
            if self.teacher:
                self.teacher.load(state["teacher"])
            self.console.say(f"Training resumes after step {self.position.step} of {self._total}.")
        self.processes.wait()
        if self.processes.first:
            if self.checkpoints.foreign and found is None:
                self.console.warn(f"Checkpoints of other settings in {self.out_dir} were ignored.")
                self.checkpoints.clear()
            truncate_metrics(metrics, self.position.step)

    def _log(self) -> IO[bytes]:
        """The metrics' file, which the first process writes."""
        return (self.out_dir / METRICS_FILE if self.processes.first else Path(os.devnull)).open("ab")

    @property
    def _total(self) -> int:
        return self.pace.total(self.position)

    def _save_points(self) -> None:
        """Writes the adapters that are due, as they are now."""
        taken = {fraction for fraction, *_ in self.position.points}
        fraction = self.pace.fraction(self.position)
        for due, name in self.config.points.items():
            if due not in taken and fraction >= due - 1e-9:
                state = adapter.whole_state(self.model, keep=self.processes.first)
                if self.processes.first:
                    folder = self.out_dir / "points" / name
                    folder.parent.mkdir(exist_ok=True)
                    adapter.save(self.model, state, folder)
                counts = self.position
                counts.points.append((due, counts.step, counts.target_tokens, counts.kept_tokens))

    def _finish(self) -> TrainResult:
        """The weights that are kept, written by the first process."""
        if self.best:
            with torch.no_grad():
                for name, own in self.weights.own.items():
                    own.copy_(self.best[name])
        target = self.out_dir / ADAPTER_FOLDER
        state = adapter.whole_state(self.model, keep=self.processes.first)
        if self.processes.first:
            adapter.save(self.model, state, target)
            self.checkpoints.clear()
        self.processes.wait()
        return TrainResult(
            adapter_dir=target,
            steps=self.position.step,
            target_tokens=self.position.target_tokens,
            kept_tokens=float(self.position.kept_tokens),
            seconds=self.position.seconds,
            final_loss=self.position.loss,
            peak_memory_gib=self.position.peak_memory_gib,
            skipped=tuple(row.example_id for row in self.rows if not len(row.input_ids)),
            truncated=tuple(row.example_id for row in self.rows if row.truncated),
            nll=self.position.nll / max(1, self.position.nll_tokens),
            clipped_steps=self.position.clipped_steps,
            generated_tokens=self.position.generated_tokens,
            held_out=tuple(row.example_id for row in self.held_out),
            best_step=self.position.best_step if self.held_out else None,
            best_loss=self.position.best_loss if self.held_out else None,
            missed=self.pace.short(self.position),
            points=tuple(
                Point(self.config.points[fraction], fraction, *map(int, counts))
                for fraction, *counts in self.position.points
            ),
        )

    def packs(self, rows: list[Row]) -> list[Pack]:
        """This process's part of a batch. Cut layers run in step on all processes, so there the short ones are filled
        up with packs that train nothing."""
        shares = share(rows, self.processes.size)
        every = [make_packs(part, self.config.microbatch_tokens, together=self.packed.packs) for part in shares]
        own = every[self.processes.rank]
        if self.sharded:
            own = own + [empty_pack(rows[0])] * (max(map(len, every)) - len(own))
        return own

    def step(self, step: int, rows: list[Row]) -> tuple[dict[str, Any], int]:
        """One update on ``rows``; gives its line of metrics and the tokens that went through the model."""
        # Each step has a seed of its own: a continued run needs no stored random state, whatever its processes.
        torch.manual_seed(int(digest(self.seed, step, self.processes.rank)[:15], 16))
        total = self._total
        progress = step / total
        generated = 0
        if self.rollouts:
            rows, generated = self.rollouts.rows([self.examples[row.source] for row in rows], step, progress)
            self.position.generated_tokens += generated
        own = TokenLoss()
        bad: tuple[str, ...] = ()
        for pack in self.passes.weigh(self.packs(rows), progress):
            part = self.backward(pack, progress)
            own += part
            if not math.isfinite(part.loss):
                bad = bad or pack.example_ids
                if self.processes.alone:
                    break
        every = self.processes.gather([*astuple(own), self.memory.peak])
        loss, kept, nll, tokens, peak = zip(*every, strict=True)
        summed = TokenLoss(sum(loss), int(sum(kept)), sum(nll), int(sum(tokens)))
        if not math.isfinite(summed.loss):
            raise self._diverged(step, summed.loss, self.processes.first_of(bad))
        targets = sum(row.target_tokens for row in rows)
        divided_by = divisor(self.method.denominator, summed.kept, targets, len(rows))
        mean = summed.loss / divided_by if divided_by else 0.0
        if mean > self.config.max_loss:
            raise self._diverged(step, mean, tuple(row.example_id for row in rows))
        rate = learning_rate(self.config, step, total)
        norm = self._update(rate, divided_by, step, rows) if summed.kept else 0.0
        if self.teacher:
            self.teacher.after_step(step + 1)
        clipped = 0 < self.config.grad_clip < norm
        self.position.add(summed, mean, clipped=clipped, targets=targets, peak_memory_gib=max(peak))
        line = {
            "step": step + 1,
            "loss": mean,
            "nll": summed.nll / summed.tokens if summed.tokens else 0.0,
            "kept_tokens": summed.kept,
            "all_tokens": targets,
            "grad_norm": norm,
            "clipped": clipped,
            "lr": rate,
        }
        if self.rollouts:
            line["generated_tokens"] = generated
        return line, sum(len(row.input_ids) for row in rows)

    def backward(self, pack: Pack, progress: float) -> TokenLoss:
        """Adds the gradient of the pack's summed loss to the parameters."""
        return self.passes.backward(pack, progress)

    def held_out_nll(self) -> float:
        """Mean nll of the held-out references in nats per token: the same tokens for every arm."""
        sums = self.processes.gather(self.passes.held_out(self.packs(self.held_out)))
        total = sum(s[1] for s in sums)
        return sum(s[0] for s in sums) / total if total else math.inf

    def _check_early_stop(self, line: dict[str, Any]) -> bool:
        """Measures the held-out nll where one is due, keeps the best weights, and says whether to stop."""
        every = self.config.early_stop_steps or math.ceil(len(self.rows) / self.config.batch_size)
        if not self.held_out or (self.position.step % every and not self.pace.done(self.position)):
            return False
        loss = line["held_out_nll"] = self.held_out_nll()
        if loss < self.position.best_loss:
            self.position.best_loss, self.position.best_step = loss, self.position.step
            self.position.rounds_without_gain = 0
            self.best = {name: p.detach().clone() for name, p in self.weights.own.items()}
            return False
        self.position.rounds_without_gain += 1
        return self.position.rounds_without_gain >= self.config.early_stop_patience

    def _update(self, rate: float, divided_by: int, step: int, rows: list[Row]) -> float:
        gradients = self.weights.gradients()
        torch._foreach_div_(gradients, float(divided_by))
        norm = self.weights.norm(gradients)
        if not math.isfinite(float(norm)):
            raise self._diverged(step, float(norm), tuple(row.example_id for row in rows), "gradient norm")
        if self.config.grad_clip > 0:
            nn.utils.clip_grads_with_norm_(self.weights.own.values(), self.config.grad_clip, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.weights.clear()
        return float(norm)

    def _checkpoint(self, log: IO[bytes]) -> None:
        every, done = self.config.checkpoint_steps, self.position.step
        if not every or done % every or self.pace.done(self.position):
            return
        state = {
            "parameters": self.weights.state(),
            "optimizer": self.weights.optimizer_state(self.optimizer),
            "best": self.weights.wholes(self.best),
            "teacher": self.teacher.state() if self.teacher else {},
        }
        if self.processes.first:
            os.fsync(log.fileno())
            self.checkpoints.save(self.position, state)

    def _diverged(self, step: int, value: float, ids: tuple[str, ...], what: str = "loss") -> TrainingError:
        named = ", ".join(ids[:NAMED_EXAMPLES]) + (
            f" and {len(ids) - NAMED_EXAMPLES} more" if len(ids) > NAMED_EXAMPLES else ""
        )
        return TrainingError(
            f"Training diverged at step {step + 1}: {what} {value:.4g} on examples {named}; lower the learning rate "
            f"(now {self.config.lr:g}) or check these examples."
        )
