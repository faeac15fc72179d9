"""Kills a real run (SIGKILL) at random moments, starts it again until it finishes, and compares what it leaves.

A tiny random model, methods sft, dasd and profit, two tasks. The run works in a process forked from one that has loaded
everything, so that a start takes no time. Every run that finishes must have left the bytes of an undisturbed one (all
files of the run folder, times and memory left out), and then the next one starts on an empty store.

    python -m benchmarks.kill_run --kills 50 --minutes 12
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import datasets  # noqa: F401  (what a run needs is loaded once, before the forks)
import lm_eval  # noqa: F401
import peft  # noqa: F401
import torch

from dasd_bench.cli.main import run_cli
from dasd_bench.run.stages.base import Stage
from tests.run.helpers import artifacts
from tests.tiny_models import make_tiny_model

START, NOTHING = "start", "between stages"
OPTIONS = (
    *("--method", "sft,dasd,profit", "--tasks", "mini_gsm,mini_arc", "--train-limit", "6", "--limit", "4"),
    *("--max-new-tokens", "12", "--seeds", "0", "--set", "engine.max_num_seqs=2"),
)


def start(model: Path, folder: Path) -> int:
    """A forked process that runs the command line and notes in ``folder/stage`` what it works on; its id."""
    process = os.fork()
    if process:
        return process
    torch.set_num_threads(1)
    note = folder / "stage"
    note.write_text(START)
    original = Stage.run

    def noted(self: Stage[object]) -> None:
        note.write_text(self.name.split()[0])
        original(self)
        note.write_text(NOTHING)

    Stage.run = noted  # type: ignore[method-assign,assignment]
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 1
    try:
        code = run_cli(
            ["run", "--model", str(model), *OPTIONS, "--output", f"{folder}/run", "--store", f"{folder}/store"]
        )
    finally:
        os._exit(code)


def finished_within(process: int, seconds: float) -> int | None:
    """The exit code of a process; None where it still works after that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=12.0, help="no kill after this time")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    root = Path(tempfile.mkdtemp(prefix="kill-run-"))
    began = time.monotonic()
    try:
        model = make_tiny_model("llama", root / "model")
        (root / "whole").mkdir()
        started = time.monotonic()
        if finished_within(start(model, root / "whole"), 600) != 0:
            print((root / "whole" / "output.txt").read_text(), file=sys.stderr)
            return 1
        whole = time.monotonic() - started
        expected = artifacts(root / "whole" / "run")
        stages: Counter[str] = Counter()
        kills = runs = different = failed = 0
        while kills < arguments.kills and time.monotonic() - began < 60 * arguments.minutes:
            folder = root / "killed"
            folder.mkdir()
            while True:
                last = kills >= arguments.kills or time.monotonic() - began >= 60 * arguments.minutes
                process = start(model, folder)
                code = finished_within(process, 600 if last else rng.uniform(0, whole / 2))
                if code is not None:
                    break
                stage = (folder / "stage").read_text()
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                stages[stage or NOTHING] += 1
                kills += 1
            runs += 1
            found = artifacts(folder / "run") if code == 0 else {}
            if code != 0:
                failed += 1
                print((folder / "output.txt").read_text()[-2000:], file=sys.stderr)
            elif found != expected:
                different += 1
                names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
                print(f"differ: {', '.join(names)}", file=sys.stderr)
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    counts = {"kills": kills, "runs": runs, "failed": failed, "other_bytes": different}
    print(json.dumps({"name": "kill_run", **counts, "whole_run_s": round(whole, 1), "killed_in": dict(stages)}))
    return 1 if failed or different else 0


if __name__ == "__main__":
    sys.exit(main())
