"""Token scores of 256 GSM8K targets (log p, top-1, entropy, rank) against one padded forward per batch of 8.

transformers keeps full logits of the batch, as the usual few lines of its code do; it is the side that differences
and ranks are compared with. The peers of ``peers.py`` that are installed give log p alone, which is less work. Peak
memory is what each side holds above its start.

    python benchmarks/score.py --dtype fp32 --data-dir DATA
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
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
from dasd_bench.engine.requests import ScoreRequest

TARGETS = 256
PEER_BATCH = 8


@torch.inference_mode()
def padded_scores(model: Any, requests: list[ScoreRequest], pad: int) -> list[np.ndarray]:
    """Per request [4, T]: log p, top-1 log p, entropy, rank."""
    results: list[Any] = [None] * len(requests)
    order = sorted(range(len(requests)), key=lambda i: -len(requests[i].prompt_ids) - len(requests[i].target_ids))
    for start in range(0, len(order), PEER_BATCH):
        batch = order[start : start + PEER_BATCH]
        sequences = [[*requests[i].prompt_ids, *requests[i].target_ids] for i in batch]
        longest = max(map(len, sequences))
        ids = torch.tensor([s + [pad] * (longest - len(s)) for s in sequences], device=DEVICE)
        mask = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in sequences], device=DEVICE)
        logp = torch.log_softmax(model(input_ids=ids, attention_mask=mask).logits[:, :-1].float(), dim=-1)
        chosen = logp.gather(2, ids[:, 1:, None])
        rank = (logp > chosen).sum(-1)
        entropy = -(logp.exp() * logp).sum(-1)
        columns = torch.stack([chosen.squeeze(2), logp.amax(-1), entropy, rank.float()])
        for row, i in enumerate(batch):
            first = len(requests[i].prompt_ids) - 1
            results[i] = columns[:, row, first : len(sequences[row]) - 1].cpu().numpy()
    return results


def requests_of(tokenizer: Any, data_dir: str | None, count: int) -> list[ScoreRequest]:
    """The reference answers of the first ``count`` train rows, each with the end-of-turn token."""
    stop = int(tokenizer.eos_token_id)
    return [
        ScoreRequest(chat_ids(tokenizer, ("user", row["question"])), [*tokenizer(row["answer"]).input_ids, stop])
        for row in rows(data_dir, "gsm8k", "train", count)
    ]


def peer_side(dtype: str, data_dir: str | None, count: int) -> Work:
    """Padded forwards of transformers' model."""
    model, tokenizer = load(dtype)
    requests = requests_of(tokenizer, data_dir, count)
    warm(model)
    return lambda: padded_scores(model, requests, int(tokenizer.eos_token_id))


def our_side(dtype: str, data_dir: str | None, count: int) -> Work:
    """``Engine.score``."""
    model, tokenizer = load(dtype)
    requests = requests_of(tokenizer, data_dir, count)
    engine = warm_engine(model, tokenizer)
    return lambda: [(found.logp, found.rank) for found in engine.score(requests)]


def run(
    dtype: str = "fp32", data_dir: str | None = None, runs: int = 3, limit: int | None = None
) -> list[dict[str, Any]]:
    """The line of the table."""
    model, tokenizer = load(dtype)
    limit_rate = machine_limit(model)
    body, head = linear_flops(model)
    requests = requests_of(tokenizer, data_dir, limit or TARGETS)
    arguments = (dtype, data_dir, len(requests))
    peers = installed()
    job = {
        "work": "score",
        "model": model.config._name_or_path,
        "dtype": dtype,
        "pairs": [(list(one.prompt_ids), list(one.target_ids)) for one in requests],
        "stop": int(tokenizer.eos_token_id),
    }
    theirs, ours, *others = compare(
        [(peer_side, arguments), (our_side, arguments)],
        runs,
        [PeerSide(peer, folder, job) for peer, folder in peers],
    )
    tokens = sum(len(r.target_ids) for r in requests)
    computed = sum(len(r.prompt_ids) for r in requests) + tokens
    both = list(zip(theirs.result, ours.result, strict=True))
    difference = max(float(np.abs(peer[0] - logp).max()) for peer, (logp, _) in both)
    same_rank = sum(int((peer[3] == rank).sum()) for peer, (_, rank) in both)
    rates = {"transformers": tokens / theirs.seconds}
    rates |= {peer.name: tokens / found.seconds for (peer, _), found in zip(peers, others, strict=True)}
    fastest = max(rates, key=lambda side: rates[side])
    return [
        report(
            "score",
            dtype,
            "tok/s",
            rates[fastest],
            tokens / ours.seconds,
            runs=runs,
            limit_share=round((computed * body + tokens * head) / limit_rate / ours.seconds, 3),
            max_abs_diff=float(f"{difference:.3g}"),
            identical=f"{same_rank}/{tokens} ranks",
            peer_name=fastest,
            **{side: round(rate, 1) for side, rate in rates.items()},
            peer_peak_mib=round(theirs.peak_bytes / 2**20),
            ours_peak_mib=round(ours.peak_bytes / 2**20),
        )
    ]


if __name__ == "__main__":
    main(run, __doc__)
