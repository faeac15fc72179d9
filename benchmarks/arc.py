"""ARC-Challenge log-likelihoods against lm-eval's hf backend, batch 8: ``arc`` 0-shot, ``arc-prefix`` 25-shot.

The examples of the 25-shot prompts differ from document to document, as with lm-eval's default sampler. Both sides get
the same token ids.

    python benchmarks/arc.py --dtype fp32 --data-dir DATA
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import linear_flops, load, machine_limit, main, report, rows, warm, warm_engine
from benchmarks.sides import Work, compare
from dasd_bench.engine.requests import ScoreRequest

Request = tuple[list[int], list[int]]
DOCUMENTS = {0: 64, 25: 8}
NAMES = {0: "arc", 25: "arc-prefix"}


def requests_of(tokenizer: Any, data_dir: str | None, shots: int, count: int) -> list[list[Request]]:
    """Per document the (context, continuation) ids of its choices, in lm-eval's text format."""
    pool = rows(data_dir, "arc_challenge", "train", 1000)
    draw = random.Random(1234)
    documents = []
    for document in rows(data_dir, "arc_challenge", "test", count):
        text = ""
        for shot in draw.sample(pool, shots):
            answer = shot["choices"]["text"][shot["choices"]["label"].index(shot["answerKey"])]
            text += f"Question: {shot['question']}\nAnswer: {answer}\n\n"
        context = f"{text}Question: {document['question']}\nAnswer:"
        ids = list(tokenizer(context).input_ids)
        documents.append(
            [(ids, list(tokenizer(f"{context} {c}").input_ids)[len(ids) :]) for c in document["choices"]["text"]]
        )
    return documents


def peer_side(dtype: str, data_dir: str | None, shots: int, count: int) -> Work:
    """lm-eval's hf backend: (log-likelihood, is it greedy) of every choice."""
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = load(dtype)
    flat = [request for document in requests_of(tokenizer, data_dir, shots, count) for request in document]
    backend = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, max_length=8192)
    warm(model)
    return lambda: backend._loglikelihood_tokens([(("", ""), c, t) for c, t in flat], disable_tqdm=True)


def our_side(dtype: str, data_dir: str | None, shots: int, count: int) -> Work:
    """``Engine.loglikelihood``: (log-likelihood, is it greedy) of every choice."""
    model, tokenizer = load(dtype)
    flat = [request for document in requests_of(tokenizer, data_dir, shots, count) for request in document]
    requests = [ScoreRequest(context, target, name=f"request {i}") for i, (context, target) in enumerate(flat)]
    engine = warm_engine(model, tokenizer)
    return lambda: [(found.logp, found.greedy) for found in engine.loglikelihood(requests)]


def measure(shots: int, dtype: str, data_dir: str | None, runs: int, limit: int | None) -> dict[str, Any]:
    """One line of the table."""
    model, tokenizer = load(dtype)
    limit_rate = machine_limit(model)
    body, head = linear_flops(model)
    documents = requests_of(tokenizer, data_dir, shots, limit or DOCUMENTS[shots])
    count = len(documents)
    arguments = (dtype, data_dir, shots, count)
    theirs, ours = compare([(peer_side, arguments), (our_side, arguments)], runs)
    tokens = sum(len(d[0][0]) + sum(len(t) - 1 for _, t in d) for d in documents)
    heads = sum(1 + sum(len(t) - 1 for _, t in d) for d in documents)
    both = list(zip(theirs.result, ours.result, strict=True))
    return report(
        NAMES[shots],
        dtype,
        "s/doc",
        theirs.seconds / count,
        ours.seconds / count,
        runs=runs,
        lower_is_better=True,
        limit_share=round((tokens * body + heads * head) / limit_rate / ours.seconds, 3),
        max_abs_diff=float(f"{max(abs(peer[0] - mine[0]) for peer, mine in both):.3g}"),
        identical=f"{sum(peer[1] == mine[1] for peer, mine in both)}/{len(both)}",
        peer_peak_mib=round(theirs.peak_bytes / 2**20),
        ours_peak_mib=round(ours.peak_bytes / 2**20),
    )


def run(
    dtype: str = "fp32", data_dir: str | None = None, runs: int = 3, limit: int | None = None
) -> list[dict[str, Any]]:
    """Both lines; ``limit`` documents of each."""
    return [measure(shots, dtype, data_dir, runs, limit) for shots in (0, 25)]


def run_zero_shot(
    dtype: str = "fp32", data_dir: str | None = None, runs: int = 3, limit: int | None = None
) -> list[dict[str, Any]]:
    """``arc`` alone."""
    return [measure(0, dtype, data_dir, runs, limit)]


def run_prefix(
    dtype: str = "fp32", data_dir: str | None = None, runs: int = 3, limit: int | None = None
) -> list[dict[str, Any]]:
    """``arc-prefix`` alone."""
    return [measure(25, dtype, data_dir, runs, limit)]


if __name__ == "__main__":
    main(run, __doc__)
