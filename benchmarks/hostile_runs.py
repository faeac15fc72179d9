"""Runs the hostile programs of tests/sandbox over and over and counts what survives: processes, files, passes.

    python benchmarks/hostile_runs.py [--runs 10000] [--workers 2] [--isolation auto] [--batch 500] [--table]

Prints one JSON record, or a table family by family: programs, outcomes, forged passes, effects outside, seconds. Only
zero survivors will do. ``--batch 1 --runs 120`` looks outside after every single program.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dasd_bench
from dasd_bench.sandbox import Limits, Sample, Sandbox
from tests.sandbox.hostile import LEFTOVERS, PROBLEM, PROGRAMS
from tests.sandbox.outside import open_outside


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
        # Another checkout's sandbox may be at work on the same machine; ours is started with its own folder's name.
        if str(Path(dasd_bench.__file__).parent) in line:
            found.append(f"{pid}: {line[:120]}")
    return found


#: What each family of programs does (the list is that of the tests).
FAMILIES = {
    1: "fork and thread bombs", 2: "exits before the tests", 3: "SystemExit inside the function", 4: "endless loops",
    5: "memory bombs", 6: "output floods", 7: "files outside", 8: "network and sockets", 9: "patched builtins, tracing",
    10: "objects that equal everything", 11: "reading tests from memory, /proc, disk", 12: "ignored signals and limits",
    13: "threads that go on", 14: "daemons that hold the pipe", 15: "stack overflow, segfault", 16: "disk and inodes",
    17: "forged frames", 18: "exit hooks", 19: "odd source text", 20: "odd values", 21: "reads standard input",
    22: "ptrace, signals, raw system calls", 23: "poisoned modules", 24: "environment and secrets",
    25: "harmless leftovers (must pass)", 26: "state between calls",
}  # fmt: skip


@dataclass
class Tally:
    """What a family's programs did."""

    programs: set[str] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    forged: int = 0
    effects: int = 0
    seconds: list[float] = field(default_factory=list)


def run(runs: int = 10_000, workers: int = 2, isolation: str = "auto", batch: int = 500) -> dict[str, Any]:
    """``survivors`` counts processes alive after the sandbox has closed and files left in the temporary folder;
    ``effects_outside`` what changed or arrived outside, looked at after every ``batch`` programs (1: each by itself).
    Programs that only ever end at the time limit run under a short one."""
    limits = Limits(cpu_seconds=0.15, wall_seconds=0.5, memory_gib=0.4, output_bytes=1 << 20, file_bytes=2 << 20)
    programs = sorted([*PROGRAMS, *LEFTOVERS], key=lambda program: program.family)
    order = [programs[i % len(programs)] for i in range(runs)]
    tallies: dict[int, Tally] = defaultdict(Tally)
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as sockets,
        tempfile.TemporaryDirectory() as temporary,
    ):
        before, tempfile.tempdir = processes(), temporary
        with open_outside(Path(folder), Path(sockets)) as outside:
            start = time.perf_counter()
            with Sandbox(workers, limits, isolation=isolation) as sandbox:
                level = sandbox.level.value if sandbox.level else ""
                between = len(of_programs(before))
                for first in range(0, runs, batch):
                    part = order[first : first + batch]
                    results = sandbox.run([Sample("p", outside.fill(program.code)) for program in part], [PROBLEM])
                    for program, result in zip(part, results, strict=True):
                        tally = tallies[program.family]
                        tally.programs.add(program.name)
                        tally.outcomes[result.outcome.value] += 1
                        tally.seconds.append(result.wall_seconds)
                        tally.forged += result.passed and program.family != 25
                    tallies[part[-1].family].effects += len(outside.effects())
                grown = len(of_programs(before)) - between
            time.sleep(0.5)
            left = of_programs(before)
            files_left = os.listdir(temporary)
            tempfile.tempdir = None
            seconds = time.perf_counter() - start
    return {
        "name": f"hostile programs, {workers} workers, isolation {level}",
        "runs": runs,
        "seconds": round(seconds, 1),
        "survivors": len(left) + len(files_left),
        "processes_grown_while_open": grown,
        "forged_passes": sum(tally.forged for tally in tallies.values()),
        "effects_outside": sum(tally.effects for tally in tallies.values()),
        "families": {
            f"{family:02d}": {
                "what": FAMILIES[family],
                "programs": len(tally.programs),
                "outcomes": dict(tally.outcomes.most_common()),
                "forged": tally.forged,
                "effects_outside": tally.effects,
                "mean_seconds": round(sum(tally.seconds) / len(tally.seconds), 3),
                "max_seconds": round(max(tally.seconds), 3),
            }
            for family, tally in sorted(tallies.items())
        },
    }


def table(record: dict[str, Any]) -> str:
    """The record as a Markdown table, a row per family."""
    lines = [
        f"{record['name']}: {record['runs']} runs, {record['survivors']} survivors, {record['forged_passes']} forged, "
        f"{record['effects_outside']} effects outside, {record['seconds']} s",
        "",
        "| family | what | programs | outcomes | forged | outside | mean s | max s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for family, found in record["families"].items():
        outcomes = ", ".join(f"{name} {count}" for name, count in found["outcomes"].items())
        lines.append(
            f"| {family} | {found['what']} | {found['programs']} | {outcomes} | {found['forged']} | "
            f"{found['effects_outside']} | {found['mean_seconds']} | {found['max_seconds']} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--isolation", default="auto")
    parser.add_argument("--batch", type=int, default=500, help="programs between two looks outside")
    parser.add_argument("--table", action="store_true", help="print a Markdown table instead of JSON")
    options = parser.parse_args()
    record = run(options.runs, options.workers, options.isolation, options.batch)
    print(table(record) if options.table else json.dumps(record))


if __name__ == "__main__":
    main()
