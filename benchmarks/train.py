"""Training against TRL's SFTTrainer: tokens per second, peak memory, and loss per step on the same rows.

    python benchmarks/train.py --data-dir DATA --dtype fp32 --mix gsm8k --mix short --mix long --mix mixed
    python benchmarks/train.py --data-dir DATA --losses --batch 2

Both sides train LoRA r=16 on all linear layers, completion-only, batch 8, on the same rows in the same order from the
same adapter, each run in a process of its own, in both orders (A B B A ...); medians are given. Time is the whole call
that trains, ours with its set-up and the writing of the adapter. Tokens are prompt and target tokens without padding.
``--losses`` compares the loss of 20 steps in float32 on the shortest rows, for plain nll and for DFT. The peer is
``pip install trl==1.16.0``.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import DTYPES, chat_ids, linear_flops, load, machine_limit, report, rows
from dasd_bench.config.training import TrainingConfig
from dasd_bench.console import Console
from dasd_bench.methods.base import Method
from dasd_bench.registry import discover
from dasd_bench.training.batching import batches
from dasd_bench.training.trainer import TrainExample, train

LENGTHS = {"short": (24, 24), "long": (160, 480)}
"""Prompt and target tokens of the synthetic mixes; ``mixed`` alternates short and long rows."""

MIXES = ("gsm8k", "short", "long", "mixed")

ROWS = {"gsm8k": 48, "short": 96, "long": 16, "mixed": 32}
"""Rows of a run where no number is asked for."""

STEPS = 20
"""Steps whose losses are compared."""

CONFIG = TrainingConfig(epochs=1, batch_size=8, lr=2e-4, schedule="constant", warmup=0.0, checkpoint_steps=0)


@dataclass(frozen=True, slots=True)
class Work:
    """What one side trains on. ``loss`` is ``nll`` or ``dft``; ``shortest`` takes the shortest of many rows."""

    mix: str
    dtype: str
    rows: int
    batch: int = CONFIG.batch_size
    loss: str = "nll"
    shortest: bool = False
    data_dir: str | None = None


def make_rows(tokenizer: Any, work: Work) -> list[TrainExample]:
    """``gsm8k``: rows through the chat template (made here without a data folder); else random tokens."""
    rng = np.random.default_rng(0)
    pairs: list[tuple[list[int], list[int]]] = []
    if work.mix == "gsm8k":
        for row in rows(work.data_dir, "gsm8k", "train", 10 * work.rows if work.shortest else work.rows):
            answer = tokenizer(row["answer"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
            pairs.append((chat_ids(tokenizer, ("user", row["question"])), answer))
        if work.shortest:
            pairs = sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))[: work.rows]
    else:
        top = min(10_000, len(tokenizer))
        for i in range(work.rows):
            prompt, target = LENGTHS[("short", "long")[i % 2] if work.mix == "mixed" else work.mix]
            pairs.append((rng.integers(100, top, prompt).tolist(), rng.integers(100, top, target).tolist()))
    return [
        TrainExample(
            f"{work.mix}/{i}",
            np.asarray(prompt, dtype=np.int32),
            np.asarray(target, dtype=np.int32),
            np.ones(len(target), dtype=np.float32),
            np.zeros(len(target), dtype=np.bool_),
        )
        for i, (prompt, target) in enumerate(pairs)
    ]


def method_of(loss: str) -> Method:
    """The shipped method that has this loss."""
    return discover().method("dft" if loss == "dft" else "sft").item()


def run_ours(work: Work, model: Any, examples: list[TrainExample]) -> tuple[float, list[float]]:
    """Seconds of the whole call and loss per step."""
    with tempfile.TemporaryDirectory() as folder:
        method = method_of(work.loss)
        started = time.perf_counter()
        train(
            model,
            examples,
            replace(CONFIG, batch_size=work.batch),
            method=method,
            seed=0,
            out_dir=Path(folder),
            console=Console(stream=io.StringIO()),
            max_length=4096,
        )
        seconds = time.perf_counter() - started
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
        return seconds, [json.loads(line)["loss"] for line in lines]


def run_trl(work: Work, model: Any, tokenizer: Any, examples: list[TrainExample]) -> tuple[float, list[float]]:
    """The same rows in the same order through TRL, from the adapter that our side starts from."""
    import datasets
    from peft import LoraConfig, get_peft_model
    from torch.utils.data import SequentialSampler
    from trl import SFTConfig, SFTTrainer

    losses: list[float] = []

    class Ordered(SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(self.train_dataset)

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            # The trainer's own log rounds.
            found = super().compute_loss(*args, **kwargs)
            losses.append(float((found[0] if isinstance(found, tuple) else found).detach()))
            return found

    order = [i for batch in batches(len(examples), work.batch, CONFIG.epochs, 0) for i in batch]
    ids = [np.concatenate([examples[i].prompt_ids, examples[i].target_ids]).tolist() for i in order]
    mask = [[0] * len(examples[i].prompt_ids) + [1] * len(examples[i].target_ids) for i in order]
    data = datasets.Dataset.from_dict({"input_ids": ids, "completion_mask": mask})
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=work.batch,
            num_train_epochs=CONFIG.epochs,
            learning_rate=CONFIG.lr,
            lr_scheduler_type="constant",
            max_grad_norm=CONFIG.grad_clip,
            completion_only_loss=True,
            loss_type="dft" if work.loss == "dft" else "nll",
            max_length=4096,
            logging_steps=1,
            logging_nan_inf_filter=False,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            bf16=False,
            use_cpu=not torch.cuda.is_available(),
            gradient_checkpointing=False,
            seed=0,
        )
        trainer = Ordered(model=adapted, args=settings, train_dataset=data, processing_class=tokenizer)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    return seconds, losses


def worker(side: str, work: Work) -> dict[str, Any]:
    """One side, or the machine's own limit, in this process."""
    model, tokenizer = load(work.dtype)
    if side == "limit":
        body, head = linear_flops(model)
        return {"rate": machine_limit(model), "body": body, "head": head}
    model.train()
    examples = make_rows(tokenizer, work)
    seconds, losses = run_ours(work, model, examples) if side == "ours" else run_trl(work, model, tokenizer, examples)
    return {
        "seconds": seconds,
        "tokens": sum(len(e.prompt_ids) + len(e.target_ids) for e in examples),
        "trained": sum(len(e.target_ids) for e in examples),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "losses": losses,
    }


def measure(side: str, work: Work) -> dict[str, Any]:
    """One side in a process of its own."""
    command = [sys.executable, __file__, "--worker", side, "--work", json.dumps(asdict(work))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def need_peer() -> None:
    """Raises where the peer is not installed."""
    if importlib.util.find_spec("trl") is None:
        raise ModuleNotFoundError("No module named 'trl'", name="trl")


def run_mix(mix: str, dtype: str, data_dir: str | None, runs: int, limit: int | None) -> list[dict[str, Any]]:
    """Two lines of the table for one mix of rows: speed and peak memory."""
    need_peer()
    work = Work(mix, dtype, limit or ROWS[mix], data_dir=data_dir)
    limits = measure("limit", work)
    found: dict[str, list[dict[str, Any]]] = {"trl": [], "ours": []}
    for number in range(runs):
        for side in ("trl", "ours") if number % 2 == 0 else ("ours", "trl"):
            found[side].append(measure(side, work))
    middle = {
        side: {key: statistics.median(one[key] for one in every) for key in ("seconds", "peak_gib")}
        for side, every in found.items()
    }
    first = found["ours"][0]
    tokens, trained = first["tokens"], first["trained"]
    # Forward, and backward to the inputs only: the weights are frozen. The head works on trained tokens.
    operations = 2 * limits["body"] * tokens + 2 * limits["head"] * trained
    ours, peer = middle["ours"], middle["trl"]
    gap = max(abs(a - b) for a, b in zip(first["losses"], found["trl"][0]["losses"], strict=True))
    return [
        report(
            f"train {mix}",
            dtype,
            "tok/s",
            tokens / peer["seconds"],
            tokens / ours["seconds"],
            runs=runs,
            limit_share=round(operations / limits["rate"] / ours["seconds"], 3),
            max_abs_diff=gap,
        ),
        report(
            f"train {mix} memory",
            dtype,
            "GiB",
            peer["peak_gib"],
            ours["peak_gib"],
            runs=runs,
            lower_is_better=True,
        ),
    ]


def run(
    dtype: str = "fp32", data_dir: str | None = None, runs: int = 3, limit: int | None = None
) -> list[dict[str, Any]]:
    """The lines of the table for all mixes."""
    return [line for mix in MIXES for line in run_mix(mix, dtype, data_dir, runs, limit)]


def compare_losses(data_dir: str | None, batch: int, kinds: Sequence[str]) -> bool:
    """Prints the loss of every step of both sides in float32; True where all agree within 1e-5."""
    need_peer()
    worst = 0.0
    for loss in kinds:
        work = Work("gsm8k", "fp32", STEPS * batch, batch=batch, loss=loss, shortest=True, data_dir=data_dir)
        ours, peer = measure("ours", work)["losses"], measure("trl", work)["losses"]
        gaps = [abs(a - b) for a, b in zip(ours, peer, strict=True)]
        print(f"| {loss}: step | TRL | ours | difference |\n| --- | --- | --- | --- |")
        for step, (a, b, gap) in enumerate(zip(peer, ours, gaps, strict=True), 1):
            print(f"| {step} | {a:.7f} | {b:.7f} | {gap:.1e} |")
        print(f"{loss}: {len(gaps)} steps, largest difference {max(gaps):.2e}", flush=True)
        worst = max(worst, *gaps)
    return worst < 1e-5


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="Folder with gsm8k/train.jsonl; default: rows made here.")
    parser.add_argument("--dtype", default="fp32", choices=sorted(DTYPES))
    parser.add_argument("--mix", action="append", choices=MIXES, help="Rows to train on (repeatable); default: all.")
    parser.add_argument("--runs", type=int, default=3, help="Runs of each side.")
    parser.add_argument("--limit", type=int, help="Rows instead of the stated number.")
    parser.add_argument("--batch", type=int, default=CONFIG.batch_size, help="Rows per step, with --losses.")
    parser.add_argument("--losses", action="store_true", help="Compare the losses of 20 steps instead of speed.")
    parser.add_argument("--loss", action="append", choices=("nll", "dft"), help="Which, with --losses; default: both.")
    parser.add_argument("--worker", choices=("ours", "trl", "limit"), help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(worker(args.worker, Work(**json.loads(args.work)))))
        return 0
    if args.losses:
        return 0 if compare_losses(args.data_dir, args.batch, args.loss or ("nll", "dft")) else 1
    for mix in args.mix or MIXES:
        for line in run_mix(mix, args.dtype, args.data_dir, args.runs, args.limit):
            print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
