"""Whether two runs made the same: targets, token scores, weights, adapters, answers and scores, item by item.

    python benchmarks/same_artifacts.py BEFORE AFTER            # two run directories, perhaps of different versions

Prints a row per artifact: the same, or which fields differ in how many items and by how much. Times, memory and fields
that only one of the two has are left out of the comparison; the latter are named. Exit code 1 where something differs.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from dasd_bench.files.jsonl import read_rows
from dasd_bench.results.runs import load_run

TIMES = {"seconds", "tokens_per_second", "memory_gib", "peak_memory_gib"}


def main() -> int:
    """Compares every file of the first run with its counterpart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args()
    differences = 0
    for path in sorted(options.before.rglob("*")):
        name = path.relative_to(options.before)
        if not path.is_file() or name.name in ("manifest.json", "spec.yaml", "checkpoint.json"):
            continue
        found = difference(path, options.after / name)
        differences += not found.startswith("same")
        print(f"{name}: {found}")
    return int(differences > 0)


def difference(before: Path, after: Path) -> str:
    """``same``, ``same bytes``, or what differs between two files."""
    if not after.is_file():
        return "missing in the second"
    if before.read_bytes() == after.read_bytes():
        return "same bytes"
    if before.suffix == ".jsonl":
        return told(*(dict(enumerate(read_rows(path))) for path in (before, after)))
    if before.suffix == ".safetensors":
        return told(*({0: tensors(path)} for path in (before, after)))
    if before.name == "results.json":
        return told(*(scores_of(path.parent) for path in (before, after)))
    if before.suffix == ".json":
        return told(*({0: json.loads(path.read_text(encoding="utf-8"))} for path in (before, after)))
    return "other bytes"


def tensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name; bfloat16 as float32."""
    with safe_open(path, "pt") as file:
        return {name: np.asarray(file.get_tensor(name).float()) for name in file.keys()}  # noqa: SIM118


def scores_of(run: Path) -> dict[str, dict[str, Any]]:
    """The scores, statistics of targets and losses of a run, by row and task."""
    results = load_run(run)
    found: dict[str, dict[str, Any]] = {f"base {task}": asdict(score) for task, score in results.base.items()}
    for arm in results.arms:
        for one in arm.seeds:
            row = f"{arm.label} seed {one.seed}"
            found |= {f"{row} {task}": asdict(score) for task, score in one.scores.items()}
            for part in (one.target_stats, one.train_stats):
                if part is not None:
                    found[f"{row} {type(part).__name__}"] = asdict(part)
    return found


def told(before: dict[Any, dict[str, Any]], after: dict[Any, dict[str, Any]]) -> str:
    """What differs between the items of two files, field by field."""
    differing: Counter[str] = Counter()
    largest: dict[str, float] = {}
    alone = [str(item) for item in before.keys() ^ after.keys()]
    extra: set[str] = set()
    for item in before.keys() & after.keys():
        one, two = flat(before[item]), flat(after[item])
        extra |= {name for name in one.keys() ^ two.keys() if (one | two)[name] is not None}
        for name in one.keys() & two.keys():
            if name.rpartition(".")[2] not in TIMES and not equal(one[name], two[name]):
                differing[name] += 1
                largest[name] = max(largest.get(name, 0.0), distance(one[name], two[name]))
    parts = [
        f"{name} differs in {count} of {len(before)}" + (f" (by up to {largest[name]:.2g})" if largest[name] else "")
        for name, count in sorted(differing.items())
    ]
    if alone:
        parts.append(f"only in one: {', '.join(sorted(alone)[:6])}")
    names = f"fields of one only: {', '.join(sorted(extra))}" if extra else ""
    return "; ".join(parts + [names] * bool(names)) if parts else f"same{f' ({names})' if names else ''}"


def flat(value: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested objects as one, with dotted names."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= flat(inner, f"{before}{name}.") if isinstance(inner, dict) else {f"{before}{name}": inner}
    return found


def equal(one: Any, two: Any) -> bool:
    """Equality, with NaN equal to itself."""
    if isinstance(one, np.ndarray):
        return np.array_equal(one, two, equal_nan=True)
    return one == two or (isinstance(one, float) and isinstance(two, float) and math.isnan(one) and math.isnan(two))


def distance(one: Any, two: Any) -> float:
    """The largest absolute difference of numbers of one shape; 0 for anything else."""
    try:
        return float(np.max(np.abs(np.asarray(one, dtype=float) - np.asarray(two, dtype=float))))
    except (TypeError, ValueError):
        return 0.0


if __name__ == "__main__":
    sys.exit(main())
