"""Entries of a results folder made by hand: whole, so that a test breaks one thing at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dasd_bench.reporting.leaderboard.check import entry_tables
from dasd_bench.results.schema import RunResults
from tests.made_results import make_run

WEIGHTS, TEMPLATE, HASH = "a" * 64, "b" * 64, "c" * 64
CONDITIONS = {
    "dtype": "fp32",
    "chat template": TEMPLATE,
    "model weights": WEIGHTS,
    "budget": "equal",
    "prompt form": "auto",
    "data gsm8k": "d1",
    "task code gsm8k": "t1",
}


def manifest_of(results: RunResults) -> dict[str, Any]:
    return {
        "status": results.status,
        "created": "2026-11-22T20:00:00+00:00",
        "command": f"dasd-bench run --method sft,dasd --model {results.model}",
        "model": {"name": results.model, "sha256": WEIGHTS},
        "chat_template": {"mode": "auto", "sha256": TEMPLATE},
        "seeds": results.seeds,
        "arms": [{"label": arm.label, "plugin_sha256": HASH} for arm in results.arms],
        "adapters": [],
        "tasks": [
            {"name": task.name, "plugin_sha256": HASH, "train_sha256": HASH, "test_sha256": HASH}
            for task in results.tasks
        ],
        "environment": {
            "dasd_bench": "0.1.0",
            "python": "3.12.1",
            "packages": {"torch": "2.13.0", "transformers": "5.23.0", "lm_eval": "0.4.13", "peft": "0.21.2"},
        },
    }


def write_entry(folder: Path, name: str, **changes: Any) -> Path:
    """A whole entry; ``changes`` are fields of its results."""
    path = folder / name
    path.mkdir(parents=True)
    results = make_run(name, **{"conditions": CONDITIONS, **changes})
    results.save(path)
    (path / "spec.yaml").write_text(f"model: {results.model}\nmethods: [sft, dasd]\n", encoding="utf-8")
    (path / "manifest.json").write_text(json.dumps(manifest_of(results)), encoding="utf-8")
    (path / "tables.md").write_text(entry_tables(results), encoding="utf-8")
    return path
