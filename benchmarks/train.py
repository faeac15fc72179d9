"""Training against TRL's SFTTrainer: tokens per second, peak memory, and loss per step on the same rows.

    python benchmarks/train.py --model DIR_OR_ALIAS --data-dir DATA --dtype float32 --mix gsm8k
    python benchmarks/train.py --model DIR_OR_ALIAS --data-dir DATA --losses

Both sides train LoRA r=16 on all linear layers, completion-only, batch 8, on the same rows in the same order, each in
a process of its own, in both orders (A B B A); medians are printed. Time is the whole call that trains, ours with its
set-up and the writing of the adapter. Tokens are prompt and target tokens without padding. ``--losses`` instead starts
both from the same adapter in float32 and compares the loss of 20 steps, for ``nll`` and for DFT. The peer is
``pip install trl==1.16.0``; without it only our side is measured.
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dasd_bench.console import Console
from dasd_bench.lab import LiveTokens
from dasd_bench.method import Method
from dasd_bench.training.batching import batches
from dasd_bench.training.config import TrainingConfig
from dasd_bench.training.trainer import TrainExample, train

LENGTHS = {"short": (24, 24), "long": (160, 480)}
"""Prompt and target tokens of the synthetic mixes; ``mixed`` alternates short and long rows."""

CONFIG = TrainingConfig(epochs=1, batch_size=8, lr=2e-4, schedule="constant", warmup=0.0, checkpoint_steps=0)


@dataclass(frozen=True)
class Plain(Method):
    name = "sft"
    summary = "negative log-likelihood of every target token"


@dataclass(frozen=True)
class Dft(Method):
    name = "dft"
    summary = "negative log-likelihood weighted by the live probability (arXiv 2508.05629)"
    online = True

    def online_weights(self, live: LiveTokens) -> Tensor:
        return live.logp.exp()


def load(folder: str, dtype: str) -> tuple[Any, Any]:
    """Model and tokenizer of a folder or an alias."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not Path(folder).is_dir():
        from dasd_bench.models.resolve import resolve_model

        folder = str(resolve_model(folder, console=Console(stream=sys.stderr)).path)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    return model, AutoTokenizer.from_pretrained(folder)


def make_rows(tokenizer: Any, mix: str, count: int, data_dir: str | None) -> list[TrainExample]:
    """``gsm8k``: real rows through the chat template; else random tokens of fixed lengths."""
    rng = np.random.default_rng(0)
    pairs: list[tuple[list[int], list[int]]] = []
    if mix == "gsm8k":
        if data_dir is None:
            raise SystemExit("Give --data-dir with gsm8k/train.jsonl, or another --mix.")
        lines = (Path(data_dir) / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:count]
        for line in lines:
            row = json.loads(line)
            chat = [{"role": "user", "content": row["question"]}]
            prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            answer = tokenizer(row["answer"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
            pairs.append((tokenizer(prompt, add_special_tokens=False)["input_ids"], answer))
    else:
        for i in range(count):
            kind = ("short", "long")[i % 2] if mix == "mixed" else mix
            pairs.append(tuple(rng.integers(100, 10_000, n).tolist() for n in LENGTHS[kind]))  # type: ignore[arg-type]
    return [
        TrainExample(
            f"{mix}/{i}",
            np.asarray(prompt, dtype=np.int32),
            np.asarray(target, dtype=np.int32),
            np.ones(len(target), dtype=np.float32),
            np.zeros(len(target), dtype=np.bool_),
        )
        for i, (prompt, target) in enumerate(pairs)
    ]


def run_ours(args: argparse.Namespace, model: Any, rows: list[TrainExample]) -> tuple[float, list[float]]:
    """Seconds of the whole call and loss per step."""
    with tempfile.TemporaryDirectory() as folder:
        method = Dft() if args.loss == "dft" else Plain()
        started = time.perf_counter()
        train(
            model,
            rows,
            replace(CONFIG, batch_size=args.batch),
            method=method,
            seed=0,
            out_dir=Path(folder),
            console=Console(stream=io.StringIO()),
            max_length=4096,
        )
        seconds = time.perf_counter() - started
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
        return seconds, [json.loads(line)["loss"] for line in lines]


def run_trl(
    args: argparse.Namespace, model: Any, tokenizer: Any, rows: list[TrainExample]
) -> tuple[float, list[float]]:
    """The same rows in the same order through TRL, from the adapter that our side starts from."""
    import datasets
    from peft import LoraConfig, get_peft_model
    from torch.utils.data import SequentialSampler
    from trl import SFTConfig, SFTTrainer

    class Ordered(SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    order = [i for batch in batches(len(rows), args.batch, CONFIG.epochs, 0) for i in batch]
    ids = [np.concatenate([rows[i].prompt_ids, rows[i].target_ids]).tolist() for i in order]
    mask = [[0] * len(rows[i].prompt_ids) + [1] * len(rows[i].target_ids) for i in order]
    data = datasets.Dataset.from_dict({"input_ids": ids, "completion_mask": mask})
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=args.batch,
            num_train_epochs=CONFIG.epochs,
            learning_rate=CONFIG.lr,
            lr_scheduler_type="constant",
            max_grad_norm=CONFIG.grad_clip,
            completion_only_loss=True,
            loss_type="dft" if args.loss == "dft" else "nll",
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
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return seconds, losses


def worker(args: argparse.Namespace) -> None:
    """One side, in this process; prints one JSON line."""
    model, tokenizer = load(args.model, args.dtype)
    rows = make_rows(tokenizer, args.mix, args.rows, args.data_dir)
    tokens = sum(len(row.prompt_ids) + len(row.target_ids) for row in rows)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    side = run_ours(args, model, rows) if args.worker == "ours" else run_trl(args, model, tokenizer, rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "seconds": side[0],
                "tokens_per_second": tokens / side[0],
                "peak_gib": peak / 2**20,
                "loaded_gib": loaded / 2**20,
                "losses": side[1],
            }
        )
    )


def measure(args: argparse.Namespace, side: str, **changes: Any) -> dict[str, Any]:
    """One side in a process of its own."""
    values = {**vars(args), **changes, "worker": side}
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in values.items() if v is not None and not isinstance(v, bool)]
    done = subprocess.run([sys.executable, __file__, *flags], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="Folder or alias of the model.")
    parser.add_argument("--data-dir", help="Folder with gsm8k/train.jsonl.")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--mix", default="gsm8k", choices=("gsm8k", "short", "long", "mixed"))
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--batch", type=int, default=8, help="Rows per step.")
    parser.add_argument("--rounds", type=int, default=2, help="Runs of each side.")
    parser.add_argument("--loss", default="nll", choices=("nll", "dft"))
    parser.add_argument("--losses", action="store_true", help="Compare losses of 20 steps instead of speed.")
    parser.add_argument("--worker", choices=("ours", "trl"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        worker(args)
        return 0
    peer = importlib.util.find_spec("trl") is not None
    if not peer:
        print("TRL is not installed (pip install trl==1.16.0): only our side is measured.")
    if args.losses:
        return compare_losses(args) if peer else 1
    results: dict[str, list[dict[str, Any]]] = {"ours": [], "trl": []}
    sides = ["ours", "trl"] if peer else ["ours"]
    for i in range(args.rounds):
        for side in sides if i % 2 == 0 else reversed(sides):
            results[side].append(measure(args, side))
    print(
        f"LoRA r=16 all-linear, {args.rows} rows ({args.mix}), batch {args.batch}, {args.dtype}, "
        f"{torch.get_num_threads()} threads"
    )
    print("| side | tok/s (median) | runs | peak GiB |\n| --- | --- | --- | --- |")
    middle = {}
    for side in sides:
        speeds = [run["tokens_per_second"] for run in results[side]]
        peaks = [run["peak_gib"] for run in results[side]]
        middle[side] = (statistics.median(speeds), statistics.median(peaks))
        print(f"| {side} | {middle[side][0]:.0f} | {', '.join(f'{s:.0f}' for s in speeds)} | {middle[side][1]:.2f} |")
    if peer:
        ratio, memory = (middle["ours"][i] / middle["trl"][i] for i in (0, 1))
        print(f"speed {ratio:.2f} times the peer's, peak memory {memory:.2f} of it")
    return 0


def compare_losses(args: argparse.Namespace) -> int:
    """Loss per step of both sides over 20 steps in float32."""
    worst = 0.0
    for loss in ("nll", "dft"):
        ours, peer = (
            measure(args, side, dtype="float32", rows=20 * args.batch, loss=loss)["losses"] for side in ("ours", "trl")
        )
        gaps = [abs(a - b) for a, b in zip(ours, peer, strict=True)]
        worst = max(worst, *gaps)
        print(f"{loss}: {len(gaps)} steps, largest difference {max(gaps):.2e}, first {ours[0]:.6f} last {ours[-1]:.6f}")
    return 0 if worst < 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
