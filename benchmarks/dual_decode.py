"""Dual-context decoding of 64 GSM8K train prompts, 200 new tokens, under the confidence gate.

The peer is what a user would write: transformers' ``generate`` (batch 32, sorted by length) with a LogitsProcessor that
runs the answer-aware context with a second cache and forces the token the gate picks.

    python benchmarks/dual_decode.py --dtype fp32 --data-dir DATA
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
from benchmarks.sides import Work, compare
from dasd_bench.engine.requests import DualRequest
from dasd_bench.methods.context import Choice, DualStep
from dasd_bench.types import Origin

PROMPTS = 64
NEW_TOKENS = 200
PEER_BATCH = 32
TAU = 0.9
REWRITE = "Write this solution again in your own words, step by step, and finish with the final answer."


def gate(step: DualStep) -> Choice:
    """The base's own token where it is sure, else the answer-aware candidate."""
    sure = step.base_logp.amax(dim=-1) >= math.log(TAU)
    token = torch.where(sure, step.base_token, step.reference_token)
    return Choice(token, torch.where(sure, int(Origin.BASE), int(Origin.CANDIDATE)).to(torch.uint8))


def padded(prompts: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Left-padded ids and mask."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=DEVICE)
    return ids, torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=DEVICE)


class GateProcessor:
    """A LogitsProcessor that keeps the answer-aware context in step with the plain one."""

    def __init__(self, model: Any, ids: Tensor, mask: Tensor, prompt_length: int) -> None:
        from transformers import DynamicCache

        self.model, self.ids, self.mask, self.prompt_length = model, ids, mask, prompt_length
        self.cache = DynamicCache(config=model.config)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.shape[1] > self.prompt_length:
            self.ids = input_ids[:, -1:]
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -self.ids.shape[1] :]
        reference = self.model(
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        sure = torch.softmax(scores.float(), dim=-1).amax(dim=-1) >= TAU
        token = torch.where(sure, scores.argmax(dim=-1), reference.argmax(dim=-1))
        return torch.full_like(scores, float("-inf")).scatter_(1, token.unsqueeze(1), 0.0)


def peer(model: Any, bases: list[list[int]], references: list[list[int]], stop: int) -> list[list[int]]:
    """New tokens up to and including the stop token."""
    from transformers import LogitsProcessorList

    results: list[list[int]] = [[] for _ in bases]
    order = sorted(range(len(bases)), key=lambda i: -len(bases[i]))
    for start in range(0, len(order), PEER_BATCH):
        batch = order[start : start + PEER_BATCH]
        ids, mask = padded([bases[i] for i in batch], stop)
        processor = GateProcessor(model, *padded([references[i] for i in batch], stop), ids.shape[1])
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                eos_token_id=[stop],
                pad_token_id=stop,
                logits_processor=LogitsProcessorList([processor]),
                top_k=None,
                top_p=None,
                temperature=None,
            )
        for i, row in zip(batch, out[:, ids.shape[1] :].tolist(), strict=True):
            results[i] = row[: row.index(stop) + 1] if stop in row else row
    return results


def prompts_of(tokenizer: Any, data_dir: str | None, count: int) -> tuple[list[list[int]], list[list[int]]]:
    """The plain and the answer-aware prompts of the first ``count`` train rows."""
    examples = rows(data_dir, "gsm8k", "train", count)
    bases = [chat_ids(tokenizer, ("user", row["question"])) for row in examples]
    references = [
        chat_ids(tokenizer, ("user", row["question"]), ("assistant", row["answer"]), ("user", REWRITE))
        for row in examples
    ]
    return bases, references


def peer_side(dtype: str, data_dir: str | None, count: int) -> Work:
    """transformers' ``generate`` with the processor."""
    model, tokenizer = load(dtype)
    bases, references = prompts_of(tokenizer, data_dir, count)
    warm(model)
    return lambda: peer(model, bases, references, int(tokenizer.eos_token_id))


def our_side(dtype: str, data_dir: str | None, count: int) -> Work:
    """``Engine.dual_decode``."""
    model, tokenizer = load(dtype)
    stop = frozenset([int(tokenizer.eos_token_id)])
    requests = [
        DualRequest(base, reference, NEW_TOKENS, stop, name=f"row {i}")
        for i, (base, reference) in enumerate(zip(*prompts_of(tokenizer, data_dir, count), strict=True))
    ]
    engine = warm_engine(model, tokenizer)
    return lambda: [found.token_ids.tolist() for found in engine.dual_decode(requests, gate)]


def run(
    dtype: str = "fp32", data_dir: str | None = None, runs: int = 3, limit: int | None = None
) -> list[dict[str, Any]]:
    """The line of the table."""
    model, tokenizer = load(dtype)
    limit_rate = machine_limit(model)
    body, head = linear_flops(model)
    bases, references = prompts_of(tokenizer, data_dir, limit or PROMPTS)
    arguments = (dtype, data_dir, len(bases))
    theirs, ours = compare([(peer_side, arguments), (our_side, arguments)], runs)
    tokens = sum(map(len, ours.result))
    shared = sum(
        next(i for i, (x, y) in enumerate(zip(b, r, strict=False)) if x != y) if b != r[: len(b)] else len(b)
        for b, r in zip(bases, references, strict=True)
    )
    work = (sum(map(len, bases)) + sum(map(len, references)) - shared + 2 * tokens) * body + 2 * tokens * head
    return [
        report(
            "dual-decode",
            dtype,
            "tok/s",
            sum(map(len, theirs.result)) / theirs.seconds,
            tokens / ours.seconds,
            runs=runs,
            limit_share=round(work / limit_rate / ours.seconds, 3),
            identical=f"{sum(a == b for a, b in zip(theirs.result, ours.result, strict=True))}/{len(ours.result)}",
            peer_peak_mib=round(theirs.peak_bytes / 2**20),
            ours_peak_mib=round(ours.peak_bytes / 2**20),
        )
    ]


if __name__ == "__main__":
    main(run, __doc__)
