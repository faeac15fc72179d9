"""Takes a checkpoint of a large model's shape, with random weights, through the whole command under a memory limit.

The checkpoint is written shard by shard (bfloat16, at most 512 MB in memory), with the tokenizer of smollm2-135m. Then
``run --dry-run`` says what the run needs, and the run itself follows in a process whose address space is limited
(``ulimit -v``), so that too much memory ends the run and not the machine. Prints peak
memory and time beside the plan's.

    python -m benchmarks.big_model --shape llama3-8b --limit-gib 21 --minutes 60
    python -m benchmarks.big_model --shape llama3-8b --divide 4 --limit-gib 6     # the same, 1 GB of weights
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import save_file

from dasd_bench.console import Console
from dasd_bench.models.resolve import resolve_model
from dasd_bench.resources.shapes import ALIASES, shape_of_config

SHARD_BYTES = 512e6
SMALLEST_VOCABULARY = 49152
"""Rows that the tokenizer needs."""

RUN = ("--method", "dasd", "--tasks", "mini_arc", "--seeds", "0")
SEED = 0


def scaled(name: str, divide: int, layers: int | None) -> dict[str, Any]:
    """The configuration of a built-in alias, its widths divided and its layers replaced."""
    config = dict(ALIASES[name])
    for key in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"):
        config[key] = max(1, config[key] // divide)
    config["vocab_size"] = max(SMALLEST_VOCABULARY, config["vocab_size"] // divide)
    config["num_hidden_layers"] = layers or config["num_hidden_layers"]
    return config


def make_checkpoint(config: dict[str, Any], folder: Path) -> None:
    """Writes the model folder; tensors are drawn one at a time from a fixed seed."""
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {key: value for key, value in config.items() if key != "model_type"}
    full = AutoConfig.for_model(config["model_type"], **fields, torch_dtype="bfloat16")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(full)
    full.architectures = [type(model).__name__]
    folder.mkdir(parents=True)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if full.tie_word_embeddings:
        del shapes["lm_head.weight"]
    random = torch.Generator().manual_seed(SEED)
    index: dict[str, str] = {}
    held: dict[str, torch.Tensor] = {}
    total = number = 0

    def flush() -> None:
        nonlocal held, number
        file = f"model-{number:05d}.safetensors"
        save_file(held, folder / file, metadata={"format": "pt"})
        index.update(dict.fromkeys(held, file))
        held, number = {}, number + 1

    for name, shape in shapes.items():
        tensor = torch.empty(shape, dtype=torch.bfloat16)
        if tensor.dim() > 1:
            tensor.normal_(0.0, 0.02, generator=random)
        elif "norm" in name:
            # Gemma adds one to the weights of its norms.
            tensor.fill_(0.0 if config["model_type"].startswith("gemma") else 1.0)
        else:
            tensor.zero_()
        if held and sum(one.nbytes for one in held.values()) + tensor.nbytes > SHARD_BYTES:
            flush()
        held[name] = tensor
        total += tensor.nbytes
    flush()
    full.save_pretrained(folder)
    base = resolve_model("smollm2-135m", offline=True, console=Console(quiet=True)).path
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (base / file).is_file():
            shutil.copyfile(base / file, folder / file)
    written = {"metadata": {"total_size": total}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(written), encoding="utf-8")


class Child:
    """A command under a limit: its lines, seconds, and peaks of resident memory and address space in GiB.

    ``resident`` counts pages of the mapped weight files, too, ``own`` does not: the kernel drops those when short.
    """

    def __init__(self, command: list[str], limit_gib: float, seconds: float) -> None:
        started = time.monotonic()
        self.resident = self.own = self.virtual = 0.0
        self.code: int | None = None
        limit = int(limit_gib * 2**30)

        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        env = os.environ | {"HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=limited, env=env
        )
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        assert self.process.stdout is not None
        self.lines = self.process.stdout.read().splitlines()
        self.code = self.process.wait()
        timer.cancel()
        watcher.join()
        self.seconds = time.monotonic() - started

    def _watch(self) -> None:
        child = psutil.Process(self.process.pid)
        while self.code is None and child.is_running():
            try:
                status = dict(line.split(":", 1) for line in Path(f"/proc/{child.pid}/status").read_text().splitlines())
                self.resident = max(self.resident, _gib(status["VmHWM"]))
                self.virtual = max(self.virtual, _gib(status["VmPeak"]))
                self.own = max(self.own, _gib(status["RssAnon"]))
            except (OSError, KeyError):
                return
            time.sleep(0.05)

    def events(self) -> list[dict[str, Any]]:
        """The JSON events among its lines."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]


def _gib(text: str) -> float:
    return int(text.split()[0]) / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="llama3-8b", choices=sorted(ALIASES))
    parser.add_argument("--divide", type=int, default=1, help="divide all widths by this")
    parser.add_argument("--layers", type=int, help="instead of the shape's own")
    parser.add_argument("--dtype", default="bf16", choices=("bf16", "fp32"))
    parser.add_argument("--limit-gib", type=float, default=21.0, help="of address space, for the run")
    parser.add_argument("--minutes", type=float, default=90.0, help="after which the run is killed")
    parser.add_argument("--rows", type=int, default=1, help="training rows")
    parser.add_argument("--items", type=int, default=1, help="test items")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=Path("big-model"), help="for checkpoint, store and run")
    parser.add_argument("--keep", action="store_true", help="keep the checkpoint")
    parser.add_argument("--only-make", action="store_true", help="make the checkpoint and stop")
    given = parser.parse_args()
    config = scaled(given.shape, given.divide, given.layers)
    shape = shape_of_config(config)
    name = f"{given.shape}-{given.divide}-{config['num_hidden_layers']}"
    checkpoint = given.folder / name
    needed = 2 * shape.parameters
    if not checkpoint.exists():
        given.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(given.folder).free
        if free < needed * 1.1 + 2e9:
            print(f"The checkpoint takes {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free in {given.folder}.")
            return 1
        started = time.monotonic()
        partial = checkpoint.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        make_checkpoint(config, partial)
        partial.rename(checkpoint)
        print(f"{name}: {shape.parameters / 1e9:.2f}B parameters written in {time.monotonic() - started:.0f} s")
    if given.only_make:
        return 0
    for leftover in ("run", "store"):
        shutil.rmtree(given.folder / leftover, ignore_errors=True)
    command = [
        *(sys.executable, "-m", "dasd_bench", "run", *RUN, "--model", str(checkpoint), "--dtype", given.dtype),
        *("--train-limit", str(given.rows), "--limit", str(given.items), "--max-new-tokens", "8", "--offline"),
        *("--set", f"training.epochs={given.epochs}", "--store", str(given.folder / "store"), "--json"),
        *("-o", str(given.folder / "run")),
    ]
    planned = Child([*command, "--dry-run"], given.limit_gib, 300)
    plans = [event for event in planned.events() if "plan" in event]
    if planned.code or not plans:
        print("\n".join(planned.lines[-5:]))
        return 1
    rows = plans[0]["plan"]
    ran = Child(command, given.limit_gib, given.minutes * 60)
    for line in [event["text"] for event in ran.events() if event["event"] == "warning"]:
        print(line)
    if ran.code:
        print("\n".join(ran.lines[-5:]))
        print(f"exit code {ran.code} after {ran.seconds:.0f} s, {ran.resident:.1f} GiB resident")
        return 1
    results = json.loads((given.folder / "run" / "results.json").read_text(encoding="utf-8"))
    took = {(one["name"], one["arm"], one["seed"]): one for one in results["stages"]}
    print(f"{'stage':<24} {'arm':<6} {'s, planned':>10} {'s':>8} {'GiB, planned':>12} {'GiB so far':>10}")
    for row in rows:
        one = took[row["stage"], row["arm"], row["seed"]]
        print(
            f"{row['stage']:<24} {row['arm']:<6} {row['seconds']:>10.1f} {one['seconds']:>8.1f} "
            f"{row['memory_gib']:>12.2f} {one['peak_memory_gib']:>10.2f}"
        )
    seconds, peak = sum(row["seconds"] for row in rows), max(row["memory_gib"] for row in rows)
    spent = math.fsum(one["seconds"] for one in results["stages"])
    print(f"time: planned {seconds:.0f} s, took {spent:.0f} s ({spent / seconds:.2f} of the plan)")
    print(
        f"peak memory: planned {peak:.2f} GiB, took {ran.resident:.2f} GiB ({ran.resident / peak:.2f} of the plan), "
        f"of it own {ran.own:.2f} GiB; address space {ran.virtual:.2f} GiB of {given.limit_gib:g}"
    )
    if not given.keep:
        shutil.rmtree(checkpoint)
    return 0


if __name__ == "__main__":
    sys.exit(main())
