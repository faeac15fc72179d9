"""Runs the command line on tiny models, and reads what a run left."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.cli.main import run_cli

SMALL = [
    "--tasks",
    "mini_gsm,mini_arc",
    "--train-limit",
    "5",
    "--limit",
    "6",
    "--max-new-tokens",
    "10",
    "--max-answer-tokens",
    "12",
    "--num-fewshot",
    "0",
    "--set",
    "training.epochs=2",
    "--set",
    "training.batch_size=4",
    "--set",
    "training.checkpoint_steps=2",
    "--set",
    "training.lora_rank=2",
    "--set",
    "engine.max_num_seqs=2",
]
"""Options that make a run small: 10 training rows, 12 test rows, shards of 4 requests."""


@dataclass(frozen=True)
class Result:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str


def command(capsys: pytest.CaptureFixture[str], *args: str) -> Result:
    """Runs the command line in this process."""
    capsys.readouterr()
    code = run_cli(args)
    captured = capsys.readouterr()
    return Result(code, captured.out, captured.err)


def run_args(model: Path | str, folder: Path, *more: str, methods: str = "sft,dasd,profit") -> list[str]:
    """Arguments of a small run that keeps to ``folder``."""
    return [
        "run",
        "--model",
        str(model),
        "--method",
        methods,
        *SMALL,
        "--output",
        str(folder / "run"),
        "--store",
        str(folder / "store"),
        *more,
    ]


TIMED = {
    *("seconds", "cpu_seconds", "waited_seconds", "tokens_per_second", "memory_gib", "peak_memory_gib"),
    *("stages", "created"),
}


def artifacts(run_dir: Path) -> dict[str, str]:
    """Hash of every artifact of a run by its path, with timings left out of the JSON ones."""
    found = {}
    for path in sorted(p for p in run_dir.rglob("*") if p.is_file() and p.name not in (".lock", "manifest.json")):
        data = path.read_bytes()
        if path.suffix in (".json", ".jsonl"):
            data = "\n".join(json.dumps(untimed(value), sort_keys=True) for value in documents(path)).encode()
        found[path.relative_to(run_dir).as_posix()] = hashlib.sha256(data).hexdigest()
    return found


def documents(path: Path) -> list[Any]:
    """The JSON values of a file: one, or one a line."""
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else [json.loads(text)]


def untimed(value: Any) -> Any:
    """The value without the keys that hold times and memory."""
    if isinstance(value, dict):
        return {key: untimed(item) for key, item in value.items() if key not in TIMED}
    if isinstance(value, list):
        return [untimed(item) for item in value]
    return value
