"""Reference solutions of every code set: how many pass, and how many fail once what they return is changed.

    python benchmarks/gold_counts.py --data-dir DATA [--workers 2] [--step 1]

Prints one JSON record a set. ``changed_passed`` and ``failed`` must be empty; ``without_right_answer`` are rows whose
published test fails every right answer.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dasd_bench.sandbox import Sample, Sandbox, problem_from_row, self_test
from tests.sandbox.test_gold import PLUS, SETS, perturbed


def count(rows: list[dict[str, Any]], workers: int) -> dict[str, Any]:
    """The record of one set's rows."""
    problems = [problem_from_row(row) for row in rows]
    usable = [problem for problem in problems if not problem.known_bad]
    start = time.perf_counter()
    with Sandbox(workers) as sandbox:
        gold = self_test(sandbox, problems)
        changed = sandbox.run([Sample(problem.task_id, perturbed({}, problem)) for problem in usable], usable)
    return {
        "rows": len(rows),
        "gold_passed": gold.passed,
        "failed": [result.task_id for result in gold.failed],
        "without_right_answer": [problem.task_id for problem in problems if problem.known_bad],
        "changed_failed": sum(not result.passed for result in changed),
        "changed_passed": [result.task_id for result in changed if result.passed],
        "raised_limits": gold.scales,
        "isolation": gold.isolation_level,
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--step", type=int, default=1, help="take every so many rows")
    parser.add_argument("--sets", nargs="*", default=[*SETS, *PLUS])
    options = parser.parse_args()
    for name in options.sets:
        path = options.data_dir / f"{name}.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][:: options.step]
        print(json.dumps({"set": name, **count(rows, options.workers)}), flush=True)


if __name__ == "__main__":
    main()
