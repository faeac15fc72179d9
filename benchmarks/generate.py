"""Plain greedy decoding of GSM8K test prompts, 200 new tokens, against the faster of two peers in transformers.

The peers are ``generate`` (batch 32, sorted by length) and ``generate_batch`` (continuous batching). The line
``generate`` decodes 64 prompts in 64 slots, ``generate-refill`` 256 prompts in 64. Every side stops an item at the
end-of-turn token and counts the tokens it gave; ``identical`` compares with transformers' ``generate``. Where
continuous batching was the slower peer with 64 prompts it is left out with 256: on a CPU it takes them all at once,
its attention reads every sequence's cache for every token, and it had not ended after 25 minutes.

    python benchmarks/generate.py --dtype fp32 --data-dir DATA
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import DEVICE, chat_ids, linear_flops, load, machine_limit, main, report, rotated, rows, warm
from dasd_bench.engine import Engine, GenerateRequest

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


def run(
    dtype: str = "fp32", data_dir: str | None = None, runs: int = 3, limit: int | None = None
) -> list[dict[str, Any]]:
    """Both lines of the table."""
    model, tokenizer = load(dtype)
    limit_rate = machine_limit(model)
    few, many = min(64, limit or 64), min(256, limit or 256)
    first = run_line("generate", model, tokenizer, few, dtype, data_dir, runs, limit_rate, continuous=True)
    slower = first["transformers_continuous"] < first["transformers_generate"]
    second = run_line(
        "generate-refill", model, tokenizer, many, dtype, data_dir, runs, limit_rate, continuous=not slower
    )
    return [first, second]


def run_line(
    name: str,
    model: Any,
    tokenizer: Any,
    count: int,
    dtype: str,
    data_dir: str | None,
    runs: int,
    limit_rate: float,
    *,
    continuous: bool,
) -> dict[str, Any]:
    """``count`` prompts by every side."""
    body, head = linear_flops(model)
    stop = [int(tokenizer.eos_token_id)]
    prompts = [chat_ids(tokenizer, ("user", row["question"])) for row in rows(data_dir, "gsm8k", "test", count)]
    engine = Engine(model, tokenizer)
    warm(engine, tokenizer)
    requests = [GenerateRequest(p, NEW_TOKENS, frozenset(stop), name=f"row {i}") for i, p in enumerate(prompts)]
    sides: list[Callable[[], list[list[int]]]] = [
        lambda: [g.token_ids.tolist() for g in engine.generate(requests)],
        lambda: transformers_generate(model, prompts, stop, stop[0]),
    ]
    if continuous:
        sides.append(lambda: transformers_continuous(model, prompts, stop[0]))
    (seconds, ours), (peer_seconds, theirs), *others = rotated(sides, runs)
    rates = [sum(map(len, theirs)) / peer_seconds, *(sum(map(len, found)) / took for took, found in others)]
    tokens = sum(map(len, ours))
    work = (sum(map(len, prompts)) + tokens) * body + tokens * head
    return report(
        name,
        dtype,
        "tok/s",
        max(rates),
        tokens / seconds,
        runs=runs,
        limit_share=round(work / limit_rate / seconds, 3),
        identical=f"{sum(a == b for a, b in zip(theirs, ours, strict=True))}/{len(ours)}",
        transformers_generate=round(rates[0], 1),
        transformers_continuous=round(rates[1], 1) if continuous else None,
    )


if __name__ == "__main__":
    main(run, __doc__)
