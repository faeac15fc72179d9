"""Plain greedy decoding of GSM8K test prompts, 200 new tokens, against transformers' generate (batch 32, sorted).

``generate`` decodes 64 prompts in 64 slots, ``generate-refill`` 256 prompts in 64 slots. Both sides stop an item at the
end-of-turn token and count the tokens they gave. transformers' continuous batching is not measured here.

    python benchmarks/generate.py --dtype fp32 --data-dir DATA
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import DEVICE, chat_ids, interleaved, linear_flops, load, machine_limit, main, report, rows, warm
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


def run(
    dtype: str = "fp32", data_dir: str | None = None, runs: int = 3, limit: int | None = None
) -> list[dict[str, Any]]:
    """Both lines of the table."""
    model, tokenizer = load(dtype)
    limit_rate = machine_limit(model)
    body, head = linear_flops(model)
    stop = [int(tokenizer.eos_token_id)]
    lines = []
    for name, count in (("generate", 64), ("generate-refill", 256)):
        count = min(count, limit or count)
        prompts = [chat_ids(tokenizer, ("user", row["question"])) for row in rows(data_dir, "gsm8k", "test", count)]
        engine = Engine(model, tokenizer)
        warm(engine, tokenizer)
        requests = [GenerateRequest(p, NEW_TOKENS, frozenset(stop), name=f"row {i}") for i, p in enumerate(prompts)]
        times = interleaved(
            lambda p=prompts: transformers_generate(model, p, stop, stop[0]),
            lambda e=engine, r=requests: [g.token_ids.tolist() for g in e.generate(r)],
            runs,
        )
        peer_seconds, our_seconds, theirs, ours = times
        tokens = sum(map(len, ours))
        work = (sum(map(len, prompts)) + tokens) * body + tokens * head
        lines.append(
            report(
                name,
                dtype,
                "tok/s",
                sum(map(len, theirs)) / peer_seconds,
                tokens / our_seconds,
                runs=runs,
                limit_share=round(work / limit_rate / our_seconds, 3),
                identical=f"{sum(a == b for a, b in zip(theirs, ours, strict=True))}/{len(ours)}",
            )
        )
    return lines


if __name__ == "__main__":
    main(run, __doc__)
