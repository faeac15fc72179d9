"""Plain greedy decoding of GSM8K test prompts, 200 new tokens, against the fastest peer that is there.

The peers are transformers' ``generate`` (batch 32, sorted by length) and ``generate_batch`` (continuous batching),
and those of ``peers.py`` that are installed. The lines decode 64, 1, 8 and 256 prompts, 64 of them at once. Every
side stops an item at the end-of-turn token and counts the tokens it gave; ``identical`` compares with transformers'
``generate``. Where continuous batching was the slower peer with 64 prompts it is left out with 256: on a CPU it takes
them all at once, its attention reads every sequence's cache for every token, and it had not ended after 25 minutes.
With ``DASD_BENCH_CONTINUOUS=off`` it is left out altogether: on a CPU its cache takes all memory where the model is
tiny.

    python benchmarks/generate.py --dtype fp32 --data-dir DATA
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import (
    DEVICE,
    chat_ids,
    linear_flops,
    load,
    machine_limit,
    main,
    report,
    rows,
    warm,
    warm_engine,
)
from benchmarks.peers import PeerSide, installed
from benchmarks.sides import Work, compare
from dasd_bench.engine.requests import GenerateRequest

LINES = {"generate": 64, "generate-1": 1, "generate-8": 8, "generate-refill": 256}
"""Prompts of each line."""
NEW_TOKENS = 200
PEER_BATCH = 32


def transformers_generate(model: Any, prompts: list[list[int]], stop: list[int], pad: int) -> list[list[int]]:
    """Left-padded batches, sorted by length; new tokens up to and including the stop token."""
    results: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    for start in range(0, len(order), PEER_BATCH):
        batch = order[start : start + PEER_BATCH]
        longest = max(len(prompts[i]) for i in batch)
        ids = torch.tensor([[pad] * (longest - len(prompts[i])) + prompts[i] for i in batch], device=DEVICE)
        mask = torch.tensor([[0] * (longest - len(prompts[i])) + [1] * len(prompts[i]) for i in batch], device=DEVICE)
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                eos_token_id=stop,
                pad_token_id=pad,
                top_k=None,
                top_p=None,
                temperature=None,
            )
        for i, row in zip(batch, out[:, longest:].tolist(), strict=True):
            ends = [at for at, token in enumerate(row) if token in stop]
            results[i] = row[: ends[0] + 1] if ends else row
    return results


def transformers_continuous(model: Any, prompts: list[list[int]], stop: int) -> list[list[int]]:
    """transformers' continuous batching with its own defaults; new tokens up to and including the stop token."""
    from transformers import GenerationConfig

    config = GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=stop, pad_token_id=stop)
    before = model.config._attn_implementation
    found = model.generate_batch(inputs=prompts, generation_config=config)
    model.config._attn_implementation = before
    # Results come under names that end in the number of the prompt.
    numbered = {int(name.rpartition("_")[2]): list(output.generated_tokens) for name, output in found.items()}
    return [numbered[number] for number in sorted(numbered)]


def prompts_of(tokenizer: Any, data_dir: str | None, count: int) -> list[list[int]]:
    """The questions of the first ``count`` test rows through the chat template."""
    return [chat_ids(tokenizer, ("user", row["question"])) for row in rows(data_dir, "gsm8k", "test", count)]


def generate_side(dtype: str, data_dir: str | None, count: int) -> Work:
    """transformers' ``generate``."""
    model, tokenizer = load(dtype)
    prompts, stop = prompts_of(tokenizer, data_dir, count), int(tokenizer.eos_token_id)
    warm(model)
    return lambda: transformers_generate(model, prompts, [stop], stop)


def continuous_side(dtype: str, data_dir: str | None, count: int) -> Work:
    """transformers' continuous batching."""
    model, tokenizer = load(dtype)
    prompts = prompts_of(tokenizer, data_dir, count)
    warm(model)
    return lambda: transformers_continuous(model, prompts, int(tokenizer.eos_token_id))


def our_side(dtype: str, data_dir: str | None, count: int) -> Work:
    """``Engine.generate``."""
    model, tokenizer = load(dtype)
    stop = frozenset([int(tokenizer.eos_token_id)])
    requests = [
        GenerateRequest(prompt, NEW_TOKENS, stop, name=f"row {i}")
        for i, prompt in enumerate(prompts_of(tokenizer, data_dir, count))
    ]
    engine = warm_engine(model, tokenizer)
    return lambda: [found.token_ids.tolist() for found in engine.generate(requests)]


def run(
    dtype: str = "fp32", data_dir: str | None = None, runs: int = 3, limit: int | None = None
) -> list[dict[str, Any]]:
    """The lines of the table; ``limit`` prompts at most."""
    continuous = os.environ.get("DASD_BENCH_CONTINUOUS") != "off"
    lines = []
    for name, count in LINES.items():
        if not lines or count <= (limit or count):
            lines.append(run_line(name, min(count, limit or count), dtype, data_dir, runs, continuous=continuous))
            rate = lines[-1]["transformers_continuous"]
            continuous = rate is not None and (count < 64 or rate >= lines[-1]["transformers_generate"])
    return lines


def run_line(name: str, count: int, dtype: str, data_dir: str | None, runs: int, *, continuous: bool) -> dict[str, Any]:
    """``count`` prompts by every side."""
    model, tokenizer = load(dtype)
    limit_rate = machine_limit(model)
    body, head = linear_flops(model)
    prompts, stop = prompts_of(tokenizer, data_dir, count), int(tokenizer.eos_token_id)
    job = {
        "work": "generate",
        "model": model.config._name_or_path,
        "dtype": dtype,
        "prompts": prompts,
        "new_tokens": NEW_TOKENS,
        "stop": stop,
    }
    prepared = [our_side, generate_side, continuous_side][: 3 if continuous else 2]
    peers = installed()
    ours, *theirs = compare(
        [(side, (dtype, data_dir, count)) for side in prepared],
        runs,
        [PeerSide(peer, folder, job) for peer, folder in peers],
    )
    names = ["transformers_generate", "transformers_continuous"][: len(prepared) - 1] + [peer.name for peer, _ in peers]
    rates = {side: sum(map(len, found.result)) / found.seconds for side, found in zip(names, theirs, strict=True)}
    fastest = max(rates, key=lambda side: rates[side])
    tokens = sum(map(len, ours.result))
    work = (sum(map(len, prompts)) + tokens) * body + tokens * head
    equal = {
        side: sum(a == b for a, b in zip(found.result, ours.result, strict=True))
        for side, found in zip(names, theirs, strict=True)
    }
    return report(
        name,
        dtype,
        "tok/s",
        rates[fastest],
        tokens / ours.seconds,
        runs=runs,
        peer_name=fastest,
        limit_share=round(work / limit_rate / ours.seconds, 3),
        identical=f"{equal[names[0]]}/{count}",
        **{side: round(rates[side], 1) if side in rates else None for side in ("transformers_continuous", *names)},
        **{f"identical_{side}": f"{equal[side]}/{count}" for side in names[1:]},
        peer_peak_mib=round(theirs[0].peak_bytes / 2**20),
        ours_peak_mib=round(ours.peak_bytes / 2**20),
    )


if __name__ == "__main__":
    main(run, __doc__)
