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

from benchmarks.common import interleaved, linear_flops, load, machine_limit, main, report, rows, warm
from dasd_bench.engine import Engine, ScoreRequest

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


def measure(shots: int, dtype: str, data_dir: str | None, runs: int, limit: int | None) -> dict[str, Any]:
    """One line of the table."""
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = load(dtype)
    limit_rate = machine_limit(model)
    body, head = linear_flops(model)
    documents = requests_of(tokenizer, data_dir, shots, limit or DOCUMENTS[shots])
    flat = [request for document in documents for request in document]
    backend = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, max_length=8192)
    engine = Engine(model, tokenizer)
    warm(engine, tokenizer)
    requests = [ScoreRequest(context, target, name=f"request {i}") for i, (context, target) in enumerate(flat)]
    peer_seconds, our_seconds, theirs, ours = interleaved(
        lambda: backend._loglikelihood_tokens([(("", ""), c, t) for c, t in flat], disable_tqdm=True),
        lambda: engine.loglikelihood(requests),
        runs,
    )
    count = len(documents)
    tokens = sum(len(d[0][0]) + sum(len(t) - 1 for _, t in d) for d in documents)
    heads = sum(1 + sum(len(t) - 1 for _, t in d) for d in documents)
    difference = max(abs(a[0] - b.logp) for a, b in zip(theirs, ours, strict=True))
    return report(
        NAMES[shots],
        dtype,
        "s/doc",
        peer_seconds / count,
        our_seconds / count,
        runs=runs,
        lower_is_better=True,
        limit_share=round((tokens * body + heads * head) / limit_rate / our_seconds, 3),
        max_abs_diff=float(f"{difference:.3g}"),
        identical=f"{sum(a[1] == b.greedy for a, b in zip(theirs, ours, strict=True))}/{len(ours)}",
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
