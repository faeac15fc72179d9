"""What the engine's benchmarks share: the model, real or built-in rows, the machine's own limit, the table's lines."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dasd_bench.engine.engine import Engine
from dasd_bench.engine.linears import PackedLinear, can_pack

MODEL = "smollm2-135m"
"""The alias that is measured where ``DASD_BENCH_MODEL`` names no other alias or folder."""

DEVICE = os.environ.get("DASD_BENCH_DEVICE", "cpu")
"""``cuda`` measures both sides on a GPU."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load(dtype: str) -> tuple[Any, Any]:
    """Model and tokenizer of the benchmark."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = os.environ.get("DASD_BENCH_MODEL", MODEL)
    if not Path(name).is_dir():
        from dasd_bench.console import Console
        from dasd_bench.models.resolve import resolve_model

        name = str(resolve_model(name, console=Console(quiet=True)).path)
    model = AutoModelForCausalLM.from_pretrained(name, dtype=DTYPES[dtype]).eval().to(DEVICE)
    return model, AutoTokenizer.from_pretrained(name)


def rows(data_dir: str | Path | None, dataset: str, split: str, count: int) -> list[dict[str, Any]]:
    """The first ``count`` rows of a data set in ``data_dir`` (or ``DASD_DATA_DIR``), else rows made here."""
    folder = data_dir or os.environ.get("DASD_DATA_DIR")
    if folder is not None:
        with open(Path(folder) / dataset / f"{split}.jsonl", encoding="utf-8") as lines:
            return [json.loads(line) for _, line in zip(range(count), lines, strict=False)]
    return [_made(dataset, number) for number in range(count)]


def _made(dataset: str, number: int) -> dict[str, Any]:
    a, b, c = 7 + number * 3 % 41, 2 + number * 5 % 17, 3 + number % 7
    question = (
        f"A shop sells {a} boxes of pens in the morning and {b} boxes in the afternoon. Each box holds {c} pens. "
        f"How many pens does the shop sell on {number % 5 + 1} such days?"
    )
    total = (a + b) * c * (number % 5 + 1)
    steps = f"Boxes in a day: {a} + {b} = {a + b}.\nPens in a day: {a + b} * {c} = {(a + b) * c}.\nIn all: {total}."
    if dataset == "arc_challenge":
        texts = [f"{total + step} pens are sold" for step in (0, c, -c, 10)]
        return {"question": question, "choices": {"text": texts, "label": list("ABCD")}, "answerKey": "A"}
    if dataset.startswith("math"):
        return {"problem": question, "solution": f"{steps} $\\boxed{{{total}}}$"}
    return {"question": question, "answer": f"{steps}\n#### {total}"}


def chat_ids(tokenizer: Any, *turns: tuple[str, str]) -> list[int]:
    """Token ids of a chat with the generation prompt; a plain text where the tokenizer has no template."""
    if tokenizer.chat_template is None:
        return list(tokenizer("\n".join(text for _, text in turns) + "\n").input_ids)
    messages = [{"role": role, "content": text} for role, text in turns]
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))


def linear_flops(model: Any) -> tuple[float, float]:
    """Multiply-add operations per token, counted as two: all linear layers but the head, and the head."""
    head = model.get_output_embeddings()
    body = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear) and m is not head)
    return 2.0 * body, 2.0 * head.weight.numel()


def machine_limit(model: Any, rows_at_once: int = 512) -> float:
    """The best rate of matrix products seen here for the model's own shapes, in operations per second."""
    layers = {m.weight.shape: m for m in model.modules() if isinstance(m, nn.Linear)}
    best = 0.0
    with torch.inference_mode():
        for shape, layer in layers.items():
            if shape[0] > 8192:
                continue
            run: nn.Module = PackedLinear(layer) if can_pack(layer.weight) else layer
            hidden = torch.randn(rows_at_once, shape[1], dtype=layer.weight.dtype, device=layer.weight.device)
            work = 2.0 * rows_at_once * shape[0] * shape[1]
            for _ in range(20):
                start = clock()
                run(hidden)
                best = max(best, work / (clock() - start))
    return best


def clock() -> float:
    """Seconds; on a GPU after all that was asked of it is done."""
    if DEVICE != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def report(
    name: str, dtype: str, unit: str, peer: float, ours: float, *, runs: int, lower_is_better: bool = False, **more: Any
) -> dict[str, Any]:
    """One line of the table: figures in ``unit``; ``ratio`` above 1 says that ours is better."""
    ratio = peer / ours if lower_is_better else ours / peer
    return {
        "name": name,
        "dtype": dtype,
        "peer": round(peer, 4),
        "ours": round(ours, 4),
        "unit": unit,
        "ratio": round(ratio, 2),
        "runs": runs,
        "limit_share": None,
        "max_abs_diff": None,
        "identical": None,
        **more,
    }


def warm(model: Any) -> None:
    """A first pass builds caches of the libraries: not timed."""
    with torch.inference_mode():
        model(input_ids=torch.tensor([[1, 2, 3]], device=DEVICE))


def warm_engine(model: Any, tokenizer: Any) -> Engine:
    """An engine whose kernels are loaded and tried."""
    from dasd_bench.engine.requests import GenerateRequest

    engine = Engine(model, tokenizer)
    engine.generate([GenerateRequest(list(tokenizer("Warm up.").input_ids), 2, frozenset())])
    return engine


def main(run: Callable[..., list[dict[str, Any]]], doc: str | None) -> None:
    """The command line of one benchmark."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="fp32")
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=int, default=None, help="prompts or documents instead of the stated number")
    arguments = parser.parse_args()
    for line in run(arguments.dtype, arguments.data_dir, arguments.runs, arguments.limit):
        print(json.dumps(line))
