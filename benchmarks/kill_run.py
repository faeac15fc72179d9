"""Kills a real run (SIGKILL) in each of its stages, starts it again until it finishes, and compares what it leaves.

A tiny random model, methods sft, dasd and profit, two tasks and one retention set. The run works in a process forked
from one that has loaded everything, so that a start takes no time; it notes the stage it works on. Each kill is meant
for the stage with the fewest so far, at a random moment of the time that this stage took in an undisturbed run. Every
run that finishes must have left the bytes of the undisturbed one (all files of the run folder, times and memory left
out), and then the next one starts on an empty store.

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
from itertools import pairwise
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import datasets  # noqa: F401  (what a run needs is loaded once, before the forks)
import lm_eval  # noqa: F401
import peft  # noqa: F401
import torch

from dasd_bench.cli.main import run_cli
from dasd_bench.run.runner import _Execution
from dasd_bench.run.stages.base import Stage
from tests.run.helpers import artifacts
from tests.tiny_models import make_tiny_model

START, LAST = "start", "table"
STAGES = {
    START: 4,
    "targets": 0,
    "score": 0,
    "evaluate": 1,
    "reference": 1,
    "train": 1,
    "held-out": 1,
    "drift": 2,
    LAST: 3,
}
"""First words of the stages' names, and when they come: those of equal number alternate, the start comes each time.
``table`` is what follows the last stage: results, manifest, table."""
OPTIONS = (
    *("--method", "sft,dasd,profit", "--tasks", "mini_gsm,mini_arc", "--train-limit", "6", "--limit", "4"),
    *("--max-new-tokens", "12", "--seeds", "0", "--set", "engine.max_num_seqs=2", "--set", "training.lora_rank=2"),
    *("--set", "training.checkpoint_steps=1", "--set", "training.batch_size=4", "--retention", "piqa"),
)
KILLS_A_RUN = 6
"""Kills of one run at most, before it may finish."""


def start(model: Path, data: Path, folder: Path) -> int:
    """A forked process that runs the command line and notes in ``folder/stages`` when it begins on what; its id."""
    process = os.fork()
    if process:
        return process
    torch.set_num_threads(1)
    notes = os.open(folder / "stages", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def note(name: str) -> None:
        os.write(notes, f"{name} {time.monotonic()}\n".encode())

    note(START)
    original, complete = Stage.run, _Execution._check_complete

    def noted(self: Stage[object]) -> None:
        note(self.name.split()[0])
        original(self)

    def last(self: _Execution) -> None:
        note(LAST)
        complete(self)

    Stage.run = noted  # type: ignore[method-assign,assignment]
    _Execution._check_complete = last  # type: ignore[method-assign]
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 1
    try:
        places = ["--data-dir", str(data), "--output", f"{folder}/run", "--store", f"{folder}/store"]
        code = run_cli(["run", "--model", str(model), *OPTIONS, *places])
        note("end")
    finally:
        os._exit(code)


def stages(folder: Path) -> list[tuple[str, float]]:
    """The stages that the process has begun, each with its time."""
    try:
        lines = (folder / "stages").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [(name, float(when)) for name, _, when in (line.partition(" ") for line in lines)]


def killed_in(process: int, folder: Path, wanted: str, delay: float) -> str | int:
    """Kills the process ``delay`` seconds into a stage of that name and gives the stage it then was in; the exit code
    of a process that ended before."""
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        begun = stages(folder)
        if begun and begun[-1][0] == wanted and time.monotonic() - begun[-1][1] >= delay:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return stages(folder)[-1][0]
        time.sleep(0.001)


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
        data = root / "data"
        (data / "piqa").mkdir(parents=True)
        rows = [{"goal": f"dry {n} cups", "sol1": "a towel", "sol2": "a spoon", "label": n % 2} for n in range(4)]
        (data / "piqa" / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (root / "whole").mkdir()
        if finished_within(start(model, data, root / "whole"), 600) != 0:
            print((root / "whole" / "output.txt").read_text(), file=sys.stderr)
            return 1
        times = stages(root / "whole")
        lasted = {name: after - when for (name, when), (_, after) in pairwise(times)}
        expected = artifacts(root / "whole" / "run")
        killed: Counter[str] = Counter(dict.fromkeys(STAGES, 0))
        runs = different = failed = 0
        while killed.total() < arguments.kills and time.monotonic() - began < 60 * arguments.minutes:
            folder = root / "killed"
            folder.mkdir()
            reached = 0
            for _ in range(KILLS_A_RUN):
                ahead = [name for name, order in STAGES.items() if order >= reached]
                wanted = min(ahead, key=lambda name: (killed[name], rng.random()))
                code = killed_in(start(model, data, folder), folder, wanted, rng.uniform(0, 0.9 * lasted[wanted]))
                if isinstance(code, int) or killed.total() + 1 >= arguments.kills:
                    killed.update([code] if isinstance(code, str) else [])
                    break
                killed[code] += 1
                reached = reached if code == START else STAGES[code]
            if not isinstance(code, int):
                code = finished_within(start(model, data, folder), 600)
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
    counts = {"kills": killed.total(), "runs": runs, "failed": failed, "other_bytes": different}
    seconds = round(times[-1][1] - times[0][1], 1)
    print(json.dumps({"name": "kill_run", **counts, "whole_run_s": seconds, "killed_in": dict(killed)}))
    return 1 if failed or different else 0


if __name__ == "__main__":
    sys.exit(main())
