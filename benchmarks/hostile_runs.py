"""Runs the hostile programs of tests/sandbox over and over and counts what survives: processes, files, passes.

    python benchmarks/hostile_runs.py [--runs 10000] [--workers 2]

Prints one JSON record with a table family by family (outcomes, mean seconds). Only zero survivors will do.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dasd_bench.sandbox import Limits, Sample, Sandbox
from tests.sandbox.hostile import LEFTOVERS, PROBLEM, PROGRAMS


def processes() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def of_programs(before: set[int]) -> list[str]:
    """Command lines of processes that were not there before and that this run started: our zygotes' or programs'."""
    found = []
    for pid in processes() - before:
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "dasd_bench.sandbox" in line:
            found.append(f"{pid}: {line[:120]}")
    return found


def run(runs: int = 10_000, workers: int = 2) -> dict[str, Any]:
    """``survivors`` counts processes alive after the sandbox has closed and files left in the temporary folder.
    Programs that only ever end at the time limit run under a short one."""
    before, files = processes(), set(os.listdir(tempfile.gettempdir()))
    limits = Limits(cpu_seconds=0.15, wall_seconds=0.5, memory_gib=0.4, output_bytes=1 << 20, file_bytes=2 << 20)
    programs = [*PROGRAMS, *LEFTOVERS]
    order = [programs[i % len(programs)] for i in range(runs)]
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: dict[str, list[float]] = defaultdict(list)
    forged = 0
    start = time.perf_counter()
    with Sandbox(workers, limits) as sandbox:
        level = sandbox.level.value if sandbox.level else ""
        between = len(processes() - before)
        results = sandbox.run([Sample("p", program.code) for program in order], [PROBLEM])
        grown = len(processes() - before) - between
    for program, result in zip(order, results, strict=True):
        name = f"{program.family:02d}"
        outcomes[name][result.outcome.value] += 1
        seconds[name].append(result.wall_seconds)
        forged += result.passed and program.family != 25
    time.sleep(0.5)
    left = of_programs(before)
    return {
        "name": f"hostile programs, {workers} workers, isolation {level}",
        "runs": len(results),
        "seconds": round(time.perf_counter() - start, 1),
        "survivors": len(left) + sum(1 for name in set(os.listdir(tempfile.gettempdir())) - files if "dasd" in name),
        "processes_grown_while_open": grown,
        "forged_passes": forged,
        "families": {
            name: {"outcomes": dict(outcomes[name]), "mean_seconds": round(sum(seconds[name]) / len(seconds[name]), 4)}
            for name in sorted(outcomes)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(json.dumps(run(options.runs, options.workers)))


if __name__ == "__main__":
    main()
