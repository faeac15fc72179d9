"""Training in several processes, budgets, full fine-tuning and early stopping, from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from dasd_bench.results.schema import RunResults
from tests.run.helpers import command, run_args

ROOT = Path(__file__).parents[2]


def losses(run: Path, arm: str = "sft") -> list[float]:
    lines = (run / "arms" / arm / "seed0" / "train" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_processes_change_neither_curve_nor_key(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    model = tiny_folder("llama")
    two = command(capsys, *run_args(model, tmp_path, "--processes", "2", methods="sft"))
    assert two.code == 0, two.err
    (tmp_path / "run").rename(tmp_path / "two")
    again = command(capsys, *run_args(model, tmp_path, methods="sft"))
    assert "computed in" not in again.out
    (tmp_path / "store").rename(tmp_path / "old-store")
    (tmp_path / "run").rename(tmp_path / "reused")
    one = command(capsys, *run_args(model, tmp_path, methods="sft"))
    assert one.code == 0, one.err
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "run"), rel=1e-5)
    manifest = json.loads((tmp_path / "two" / "manifest.json").read_text())
    assert manifest["training_processes"] == {"count": 2, "parallel": "data"}


def test_the_error_of_a_process_is_the_error_of_the_run(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    more = ["--processes", "2", "--parallel", "fsdp", "--set", "training.max_loss=0.001"]
    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path, *more, methods="sft"))
    assert result.code == 3
    assert "Training diverged at step 1: loss" in result.out
    assert "on examples mini_" in result.out


def test_a_killed_run_takes_its_processes_along(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """And goes on from their checkpoint, here with one process."""
    more = ["--processes", "2", "--set", "training.epochs=400", "--set", "training.checkpoint_steps=5"]
    args = run_args(tiny_folder("llama"), tmp_path, *more, methods="sft")
    started = subprocess.Popen([sys.executable, "-m", "dasd_bench", *args], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not list(tmp_path.glob("store/train/*/checkpoints/step-*")) and time.monotonic() < until:
            time.sleep(0.05)
        workers = [child for child in psutil.Process(started.pid).children() if "worker" in " ".join(child.cmdline())]
        assert len(workers) == 2
    finally:
        os.kill(started.pid, signal.SIGKILL)
        started.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--parallel", "fsdp"], "use --processes 2 or more"),
        (["--processes", "2", "--parallel", "fsdp", "--set", "training.qlora=true"], "bitsandbytes|cannot be sharded"),
        (["--set", "training.qlora=true", "--set", "training.lora_rank=0"], "set training.lora_rank above 0"),
        (["--budget", "fair"], "Known: card, compute, equal, tokens"),
        (["--method", "sft+training.rank=8"], "Did you mean 'lora_rank'"),
    ],
)
def test_what_cannot_be_is_told_first(
    more: list[str], message: str, tiny_folder: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    import re

    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path, *more, methods="sft"))
    assert result.code == 2
    assert re.search(message, result.err)
    assert not (tmp_path / "store" / "train").exists()


def test_equal_budget_is_in_the_caption(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    more = ["--set", "training.early_stop_patience=1", "--set", "training.epochs=4"]
    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path, *more, methods="sft,low-ppl"))
    assert result.code == 0, result.err
    caption = " ".join(command(capsys, "table", str(tmp_path / "run"), "--notes").out.split())
    assert "LoRA r=2 alpha=32 on all-linear, lr 0.0002 cosine, batch 4, 4 epochs" in caption
    assert caption.count("LoRA r=2") == 1
    assert "early stop after 1 rounds without improvement" in caption
    assert "budget equal: the same adapter settings, examples, steps and schedule" in caption


def test_card_budget_trains_each_method_as_its_authors(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    """Full fine-tuning for ProFit: its weights are evaluated, too. What the run sets itself wins over the cards."""
    more = ["--budget", "card"]
    args = run_args(tiny_folder("llama"), tmp_path, *more, methods="sft,self-distill,profit")
    # The helper's small rank would win over the cards.
    place = args.index("training.lora_rank=2")
    del args[place - 1 : place + 1]
    result = command(capsys, *args)
    assert result.code == 0, result.err
    results = RunResults.load(tmp_path / "run")
    lines = results.train.arms
    assert lines["profit"].startswith("all weights, lr 1e-05 cosine, batch 4")
    assert lines["self-distill"].startswith("LoRA r=8 alpha=16 on q_proj,v_proj, lr 0.0001 cosine")
    assert lines["sft"].startswith("LoRA r=16 alpha=32 on all-linear")
    notes = command(capsys, "table", str(tmp_path / "run"), "--notes").out
    assert "budget card" in " ".join(notes.split())
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["budget"] == "card"
    assert [arm["training"]["lora_rank"] for arm in manifest["arms"]] == [16, 8, 0]
    assert (tmp_path / "run" / "arms" / "profit" / "seed0" / "adapter" / "model.safetensors").is_file()
