"""OpenVINO GenAI in an environment of its own (see ``peers.py``); imports nothing of this project.

The model is exported once with optimum, weights in fp32, into a folder beside the model's. Keys and values are kept
in the dtype that is measured: OpenVINO's default on a CPU, 8-bit integers, gives other outputs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PRECISION = {"fp32": "f32", "bf16": "bf16"}


def exported(model: Path, folder: Path) -> Path:
    """The model in OpenVINO's format."""
    if not (folder / "openvino_model.bin").exists():
        tool = Path(sys.executable).parent / "optimum-cli"
        command = [tool, "export", "openvino", "--model", model, "--task", "text-generation-with-past"]
        subprocess.run([*command, "--weight-format", "fp32", folder], check=True, stdout=sys.stderr)
    return folder


def main() -> None:
    job = json.loads(sys.stdin.readline())
    folder = exported(Path(job["model"]), Path(job["folder"]) / "openvino")
    work = generation(folder, job) if job["work"] == "generate" else scores(folder, job)
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        found = work()
        print(json.dumps({"seconds": time.perf_counter() - start, "result": found}), flush=True)


def generation(folder: Path, job: dict[str, Any]) -> Any:
    """New tokens per prompt, up to and including the stop token."""
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 4  # GiB
    scheduler.max_num_seqs = 64
    scheduler.max_num_batched_tokens = 4096
    scheduler.enable_prefix_caching = False
    precision = PRECISION[job["dtype"]]
    options = {"INFERENCE_PRECISION_HINT": precision, "KV_CACHE_PRECISION": precision}
    pipeline = genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", options)
    config = genai.GenerationConfig()
    config.max_new_tokens = job["new_tokens"]
    config.do_sample = False
    config.eos_token_id = job["stop"]
    config.stop_token_ids = {job["stop"]}
    prompts = [ov.Tensor(np.array([ids], dtype=np.int64)) for ids in job["prompts"]]

    def work() -> list[list[int]]:
        found = pipeline.generate(prompts, [config] * len(prompts))
        return [up_to(list(one.m_generation_ids[0]), job["stop"]) for one in found]

    warm = genai.GenerationConfig()
    warm.max_new_tokens = 2
    pipeline.generate(prompts[:1], [warm])
    return work


def scores(folder: Path, job: dict[str, Any]) -> Any:
    """Log p of each target token: padded batches of 8 through the compiled model, as optimum's own class runs them."""
    import torch
    from optimum.intel import OVModelForCausalLM

    model = OVModelForCausalLM.from_pretrained(
        folder, ov_config={"INFERENCE_PRECISION_HINT": PRECISION[job["dtype"]]}, use_cache=True
    )
    pairs = job["pairs"]
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]) - len(pairs[i][1]))

    def work() -> list[list[float]]:
        results: list[list[float]] = [[] for _ in pairs]
        for start in range(0, len(order), 8):
            batch = order[start : start + 8]
            sequences = [[*pairs[i][0], *pairs[i][1]] for i in batch]
            longest = max(map(len, sequences))
            ids = torch.tensor([s + [job["stop"]] * (longest - len(s)) for s in sequences])
            mask = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in sequences])
            logp = torch.log_softmax(model(input_ids=ids, attention_mask=mask).logits[:, :-1].float(), dim=-1)
            chosen = logp.gather(2, ids[:, 1:, None]).squeeze(2)
            for row, i in enumerate(batch):
                results[i] = chosen[row, len(pairs[i][0]) - 1 : len(sequences[row]) - 1].tolist()
        return results

    return work


def up_to(tokens: list[int], stop: int) -> list[int]:
    return tokens[: tokens.index(stop) + 1] if stop in tokens else tokens


if __name__ == "__main__":
    main()
