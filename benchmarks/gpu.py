"""Is this machine's GPU ready, and how fast is it? Within nine minutes, without a network, as one JSON file.

    python -m benchmarks.gpu                                       # the GPU; also: nox -s gpu
    python -m benchmarks.gpu --device cpu --model FOLDER --limit 4 # the same steps on a CPU, to see that they run

Steps, the most important first; what does not fit into ``--minutes`` any more is left out and says so:

    engine      the engine's tests, on the device
    trainer     losses of some steps of the trainer against a plain loop of torch and peft, one row at a time
    attention   a training pack of unequal rows, with and without Gemma 2's soft cap: seconds and memory against
                rows of equal length
    graphs      tokens per second with fixed shapes (CUDA graphs on a GPU) and without, and whether the tokens are equal
    generate, dual_decode, score, train
                speed against transformers and, where it is installed, TRL: the benchmarks of these names, one run each
    vllm        the vLLM back end's tests, where vLLM is installed
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

MINUTES = 9.0

PACKAGES = ("torch", "transformers", "peft", "trl", "liger_kernel", "vllm", "triton", "flash_attn")


def commands(limit: int | None) -> dict[str, tuple[list[str], float]]:
    """The command of each step, and the seconds that it may take."""
    own = [sys.executable, "-m", "benchmarks.gpu", "--step"]
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    few = ["--runs", "1", *(["--limit", str(limit)] if limit else [])]
    dtype = ["--dtype", os.environ["DASD_BENCH_DTYPE"]]

    def benchmark(name: str, *more: str) -> list[str]:
        return [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *few, *dtype, *more]

    train = benchmark("train", "--mix", "mixed")
    if importlib.util.find_spec("trl") is None:
        # Without the peer our own side alone.
        work = {"mix": "mixed", "dtype": dtype[1], "rows": limit or 32}
        train = [sys.executable, str(ROOT / "benchmarks" / "train.py"), "--worker", "ours", "--work", json.dumps(work)]
    return {
        "engine": ([*tests, "tests/engine", "--ignore=tests/engine/test_vllm.py"], 180.0),
        "trainer": ([*own, "trainer"], 60.0),
        "attention": ([*own, "attention"], 60.0),
        "graphs": ([*own, "graphs"], 60.0),
        "generate": (benchmark("generate"), 90.0),
        "dual_decode": (benchmark("dual_decode"), 90.0),
        "score": (benchmark("score"), 60.0),
        "train": (train, 90.0),
        "vllm": ([*tests, "tests/engine/test_vllm.py"], 120.0),
    }


def run_step(command: list[str], seconds: float) -> dict[str, Any]:
    """What a step printed as JSON lines, its last line and its exit code; ``code`` is None where time was up."""
    started = time.monotonic()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"code": None, "seconds": round(time.monotonic() - started, 1), "said": f"stopped after {seconds:.0f} s"}
    found = []
    for line in done.stdout.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    lines = (done.stdout if done.returncode in (0, 5) else done.stdout + done.stderr).strip().splitlines()
    said = "" if found and not done.returncode else (lines[-1][-300:] if lines else "")
    return {
        "code": done.returncode,
        "seconds": round(time.monotonic() - started, 1),
        "figures": [one for one in found if isinstance(one, dict)],
        **({"said": said} if said else {}),
    }


def machine(device: str) -> dict[str, Any]:
    """The card and the releases that the figures belong to."""
    import torch

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    card: dict[str, Any] = {
        "device": device,
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }
    if device == "cuda":
        found = torch.cuda.get_device_properties(0)
        card |= {"gpu": found.name, "memory_gib": round(found.total_memory / 2**30, 1), "cuda": torch.version.cuda}
    return card | {"versions": versions}


def trainer_step() -> list[dict[str, Any]]:
    """The trainer against the plainest loop that does the same: one row at a time, torch's AdamW, peft's LoRA."""
    import torch
    import torch.nn.functional as F
    from peft import LoraConfig, get_peft_model

    from benchmarks.common import DEVICE, load
    from benchmarks.train import CONFIG, Work, make_rows, run_ours
    from dasd_bench.training.batching import batches

    steps, batch = 6, 4
    model, tokenizer = load("fp32")
    work = Work("mixed", "fp32", steps * batch, batch=batch)
    examples = make_rows(tokenizer, work)
    _, ours = run_ours(work, model.train(), examples)
    plain = load("fp32")[0].train()
    torch.manual_seed(0)
    plain = get_peft_model(plain, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = [parameter for parameter in plain.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=CONFIG.lr, weight_decay=0.0)
    losses = []
    for indices in batches(len(examples), batch, CONFIG.epochs, 0):
        chosen = [examples[index] for index in indices]
        total, count = 0.0, sum(len(one.target_ids) for one in chosen)
        for one in chosen:
            ids = torch.tensor([[*one.prompt_ids.tolist(), *one.target_ids.tolist()]], device=DEVICE)
            logits = plain(input_ids=ids).logits[0, len(one.prompt_ids) - 1 : -1]
            loss = F.cross_entropy(logits, ids[0, len(one.prompt_ids) :], reduction="sum") / count
            loss.backward()
            total += float(loss)
        torch.nn.utils.clip_grad_norm_(trained, CONFIG.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    gap = max(abs(a - b) for a, b in zip(ours, losses, strict=True))
    return [
        {"name": "trainer agreement", "steps": steps, "largest_loss_difference": gap, "ours": ours, "plain": losses}
    ]


def attention_step() -> list[dict[str, Any]]:
    """Forward and backward of one layer's attention over a pack, 8 heads of 64, 8,192 tokens (1,024 on a CPU)."""
    import torch

    from benchmarks.common import DEVICE, clock
    from dasd_bench.training.attention import packed_attention

    total = 8192 if DEVICE != "cpu" else 1024
    short = total // 64
    packs = {"equal": (total // 8,) * 8, "unequal": (total // 2, *(short,) * 32)}
    dtype = torch.bfloat16 if DEVICE != "cpu" else torch.float32
    found = []
    for softcap in (None, 50.0):
        for name, lengths in packs.items():
            query, key, value = (
                torch.randn(1, heads, total, 64, device=DEVICE, dtype=dtype, requires_grad=True) for heads in (8, 2, 2)
            )
            best = float("inf")
            if DEVICE != "cpu":
                torch.cuda.reset_peak_memory_stats()
            for _ in range(5):
                started = clock()
                out, _ = packed_attention(
                    torch.nn.Identity(), query, key, value, None, softcap=softcap, row_lengths=lengths
                )
                out.sum().backward()
                best = min(best, clock() - started)
            peak = torch.cuda.max_memory_allocated() / 2**20 if DEVICE != "cpu" else None
            line = {"name": f"attention {name}", "softcap": softcap, "tokens": total, "rows": len(lengths)}
            found.append(line | {"milliseconds": round(1000 * best, 2), "peak_mib": peak and round(peak, 1)})
    return found


def graphs_step() -> list[dict[str, Any]]:
    """Greedy decoding of 32 prompts, 64 tokens each, with fixed shapes and without."""
    from benchmarks.common import DEVICE, clock, load
    from benchmarks.generate import prompts_of
    from dasd_bench.engine.engine import Engine
    from dasd_bench.engine.requests import EngineSettings, GenerateRequest

    model, tokenizer = load(os.environ["DASD_BENCH_DTYPE"])
    count = 32 if DEVICE != "cpu" else 4
    prompts = prompts_of(tokenizer, None, count)
    found, tokens = [], {}
    for fixed in ("off", "on"):
        engine = Engine(model, tokenizer, EngineSettings(fixed_shapes=fixed))
        asked = [GenerateRequest(prompt, 64, frozenset(), name=str(i)) for i, prompt in enumerate(prompts)]
        engine.generate(asked)
        started = clock()
        made = engine.generate(asked)
        seconds = clock() - started
        tokens[fixed] = [one.token_ids.tolist() for one in made]
        rate = sum(map(len, tokens[fixed])) / seconds
        found.append({"name": f"fixed shapes {fixed}", "tokens_per_second": round(rate, 1), **engine.describe()})
    found.append({"name": "fixed shapes agree", "identical": tokens["on"] == tokens["off"], "prompts": count})
    return found


STEPS = {"trainer": trainer_step, "attention": attention_step, "graphs": graphs_step}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), help="[default: bf16 on a GPU, fp32 on a CPU]")
    parser.add_argument("--model", help="alias or folder  [default: smollm2-135m]")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all steps  [default: 9]")
    parser.add_argument("--limit", type=int, help="prompts or rows of the speed benchmarks")
    parser.add_argument("--only", action="append", help="run these steps alone (repeatable)")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--step", choices=sorted(STEPS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        for line in STEPS[given.step]():
            print(json.dumps(line))
        return 0
    import torch

    if given.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no CUDA device; --device cpu runs the same steps on the CPU.", file=sys.stderr)
        return 2
    os.environ |= {
        "DASD_TEST_DEVICE": given.device,
        "DASD_BENCH_DEVICE": given.device,
        "DASD_BENCH_DTYPE": given.dtype or ("bf16" if given.device == "cuda" else "fp32"),
        "HF_HUB_OFFLINE": "1",
        **({"DASD_BENCH_CONTINUOUS": "off"} if given.device == "cpu" else {}),
        **({"DASD_BENCH_MODEL": given.model} if given.model else {}),
    }
    ends = time.monotonic() + given.minutes * 60
    result: dict[str, Any] = machine(given.device) | {"model": given.model or "smollm2-135m", "steps": {}}
    for name, (command, seconds) in commands(given.limit).items():
        left = ends - time.monotonic()
        if given.only and name not in given.only:
            continue
        if left < 10:
            step: dict[str, Any] = {"code": None, "said": "left out: no time was left"}
        else:
            step = run_step(command, min(seconds * max(1.0, given.minutes / MINUTES), left))
        result["steps"][name] = step
        state = "ok" if step["code"] == 0 else f"code {step['code']}"
        print(f"{name}: {state}, {step.get('seconds', 0):.0f} s {step.get('said', '')}", flush=True)
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {given.out}")
    return int(any(step["code"] not in (0, 5) for step in result["steps"].values()))


if __name__ == "__main__":
    sys.exit(main())
