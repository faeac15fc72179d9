"""vLLM's CPU build, in an environment of its own (see ``peers.py``); imports nothing of this project."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")  # GiB
os.environ["HF_HUB_OFFLINE"] = "1"

DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


def main() -> None:
    # vLLM prints to standard output; the answers must stand there alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline())
    work = prepared(job)
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        found = work()
        print(json.dumps({"seconds": time.perf_counter() - start, "result": found}), file=answers, flush=True)


def prepared(job: dict[str, Any]) -> Any:
    """New tokens per prompt, up to and including the stop token, or log p of each target token."""
    from vllm import LLM, SamplingParams

    llm = LLM(
        model=job["model"],
        dtype=DTYPES[job["dtype"]],
        max_model_len=2048,
        max_num_seqs=64,
        max_num_batched_tokens=4096,
        enable_prefix_caching=False,
        disable_log_stats=True,
    )
    if job["work"] == "generate":
        sampling = SamplingParams(
            temperature=0.0, max_tokens=job["new_tokens"], stop_token_ids=[job["stop"]], detokenize=False
        )
        prompts = [{"prompt_token_ids": ids} for ids in job["prompts"]]

        def generate() -> list[list[int]]:
            found = llm.generate(prompts, sampling, use_tqdm=False)
            return [list(one.outputs[0].token_ids) for one in found]

        llm.generate(prompts[:1], SamplingParams(max_tokens=2), use_tqdm=False)
        return generate
    once = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
    texts = [{"prompt_token_ids": [*prompt, *target]} for prompt, target in job["pairs"]]

    def score() -> list[list[float]]:
        found = llm.generate(texts, once, use_tqdm=False)
        return [
            [step[token].logprob for step, token in zip(one.prompt_logprobs[len(prompt) :], target, strict=True)]
            for one, (prompt, target) in zip(found, job["pairs"], strict=True)
        ]

    llm.generate(texts[:1], once, use_tqdm=False)
    return score


if __name__ == "__main__":
    main()
