"""A whole run over many rows with a tiny model: seconds and memory of every stage, sizes of what it leaves, and how
long ``table``, ``samples`` and ``report`` take on it.

Rows are made here, all different. With several row counts the last columns say how time and memory grew.

    python -m benchmarks.big_data --rows 5000 20000
    python -m benchmarks.big_data --rows 200000 --items 50000 --minutes 300
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.big_model import Child
from tests.tiny_models import make_tiny_model

LIMIT_GIB = 12.0


def make_rows(folder: Path, train: int, test: int) -> None:
    """``gsm8k``-like and ``arc_easy``-like rows in the layout of a data folder."""
    for split, count, offset in (("train", train, 0), ("test", test, train)):
        (folder / "arc_easy").mkdir(parents=True, exist_ok=True)
        with (folder / "arc_easy" / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(offset, offset + count):
                file.write(json.dumps(_row(number)) + "\n")


def _row(number: int) -> dict[str, Any]:
    a, b = number, number * 7919 % 100_003
    texts = [f"{a + b + step} pens" for step in (0, 3, -2, 10)]
    turn = number % 4
    return {
        "id": f"row-{number}",
        "question": f"Shop {number} sells {a} pens in the morning and {b} pens later. How many pens does it sell?",
        "choices": {"text": texts[turn:] + texts[:turn], "label": list("ABCD")},
        "answerKey": "ABCD"[-turn % 4],
    }


def one(folder: Path, rows: int, items: int, method: str, minutes: float) -> dict[str, Any]:
    """Runs it once and gives what was measured."""
    shutil.rmtree(folder, ignore_errors=True)
    make_rows(folder / "data", rows, items)
    model = make_tiny_model("llama", folder / "model")
    command = [
        *(sys.executable, "-m", "dasd_bench"),
        *("run", "--method", method, "--model", str(model), "--tasks", "arc_easy", "--num-fewshot", "0"),
        *("--set", "training.batch_size=64", "--set", "training.epochs=1", "--set", "training.lora_rank=2"),
        *("--set", "training.microbatch_tokens=8192", "--set", "training.checkpoint_steps=500", "--offline", "--json"),
        *("--data-dir", str(folder / "data"), "--store", str(folder / "store"), "-o", str(folder / "run")),
    ]
    ran = Child(command, LIMIT_GIB, minutes * 60)
    if ran.code:
        raise SystemExit("\n".join(ran.lines[-5:]))
    results = json.loads((folder / "run" / "results.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = {"run": ran.seconds, "peak GiB": ran.resident}
    for stage in results["stages"]:
        found[f"{stage['name']} {stage['arm']}"] = stage["seconds"]
    for name, more in (
        ("table", []),
        ("samples", ["--limit", "5"]),
        ("report", ["-o", str(folder / "report.html")]),
    ):
        # ``samples`` takes the run and prints a few of its items.
        started = time.monotonic()
        done = subprocess.run(
            [*command[:3], name, str(folder / "run"), *more], capture_output=True, text=True, check=False
        )
        found[name] = time.monotonic() - started
        if done.returncode:
            print(f"{name}: {done.stderr or done.stdout}")
    found["report MB"] = (folder / "report.html").stat().st_size / 1e6
    for path in sorted((folder / "run").rglob("*")):
        if path.is_file() and path.stat().st_size > 100_000:
            found[f"{path.relative_to(folder / 'run')} MB"] = path.stat().st_size / 1e6
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[5000, 20000], help="training rows")
    parser.add_argument("--items", type=int, help="test rows  [default: a quarter of the training rows]")
    parser.add_argument("--method", default="sft")
    parser.add_argument("--minutes", type=float, default=20.0, help="after which a run is killed")
    parser.add_argument("--folder", type=Path, default=Path("big-data"))
    given = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    columns = []
    for rows in given.rows:
        items = given.items or rows // 4
        columns.append(one(given.folder, rows, items, given.method, given.minutes))
        print(f"{rows} training rows, {items} test rows: {columns[-1]}", flush=True)
    for name in columns[-1]:
        values = [column.get(name) for column in columns]
        grown = f"  x{values[-1] / values[0]:.1f}" if len(values) > 1 and values[0] else ""
        print(f"{name:<44}" + "".join(f"{value or 0:>12.2f}" for value in values) + grown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
