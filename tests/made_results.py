"""Run directories made by hand: every number in them can be checked on paper."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dasd_bench.results.schema import (
    Arm,
    NoteStats,
    ReferenceNll,
    RunResults,
    SeedArm,
    StageTime,
    TargetStats,
    TaskInfo,
    TaskScore,
    TrainStats,
    TrainSummary,
)


def make_task(name: str = "gsm8k", n: int = 20, **changes: Any) -> TaskInfo:
    fields: dict[str, Any] = {
        "name": name,
        "metric": "exact_match",
        "filter": "flexible-extract",
        "higher_is_better": True,
        "comparable": True,
        "num_fewshot": 5,
        "n_items": n,
        "n_train": 40,
        "version": 3,
    }
    return TaskInfo(**{**fields, **changes})


def make_score(bits: str, name: str = "gsm8k", nll: float | None = 1.0, levels: str = "") -> TaskScore:
    """``bits`` such as ``1100``: right and wrong items in order."""
    correct = [int(bit) for bit in bits]
    return TaskScore.from_items(
        [f"{name}/test/{i}" for i in range(len(bits))],
        correct=correct,
        reasons={"correct": sum(correct), "wrong": len(correct) - sum(correct)},
        reference_nll=None if nll is None else ReferenceNll(nll, nll / 2, [nll] * len(bits)),
        groups={"level": list(levels)} if levels else {},
    )


def make_targets(**changes: Any) -> TargetStats:
    fields: dict[str, Any] = {
        "n": 40,
        "tokens": 3200,
        "mean_nll": 0.9,
        "ppl": 2.4596,
        "hpr": {"2.5": 0.28, "10": 0.12, "25": 0.05},
        "accepted": 18,
        "acceptance": 0.45,
        "reasons": {"gated": 18, "rewrite:wrong": 4, "gold:wrong": 18},
        "gold_share": 0.45,
        "mean_length": 80.0,
        "weight_zero_share": 0.0,
    }
    return TargetStats(**{**fields, **changes})


def make_note(name: str, value: float, title: str = "", how: str = "sum", **changes: Any) -> NoteStats:
    return NoteStats(name, title or name.replace("_", " "), how, value, 40, **changes)


def make_arm(method: str, seeds: dict[int, dict[str, TaskScore]], **changes: Any) -> Arm:
    made = [
        SeedArm(seed, scores, make_targets(), TrainStats(10, 6400, 6000, 61.0, 0.8, 1.5))
        for seed, scores in seeds.items()
    ]
    return Arm(**{"method": method, "options": {}, "label": method, "seeds": made, "denominator": "kept", **changes})


def make_run(run_id: str = "r1", **changes: Any) -> RunResults:
    """Base 10 of 20; sft 12 of 20 (+4/-2); dasd 15 of 20 (+5/-0)."""
    fields: dict[str, Any] = {
        "run_id": run_id,
        "status": "finished",
        "model": "smollm2-135m",
        "tasks": [make_task()],
        "base": {"gsm8k": make_score("1" * 10 + "0" * 10, nll=1.2)},
        "arms": [
            make_arm("sft", {0: {"gsm8k": make_score("1" * 8 + "00" + "1111" + "0" * 6, nll=0.9)}}),
            make_arm("dasd", {0: {"gsm8k": make_score("1" * 15 + "0" * 5, nll=1.0)}}),
        ],
        "seeds": [0],
        "methods": ["sft", "dasd"],
        "train": TrainSummary("LoRA r=16 on all-linear, lr 0.0002, batch 8, 2 epochs", "equal budget of examples"),
        "stages": [
            StageTime("score", 4.0),
            StageTime("targets", 30.0, arm="dasd", seed=0),
            StageTime("train", 61.0, arm="sft", seed=0),
            StageTime("train", 0.0, reused=True, arm="dasd", seed=0),
        ],
        "conditions": {"dtype": "float32", "chat template": "abc", "data gsm8k": "d1"},
    }
    return RunResults(**{**fields, **changes})


def write_run(folder: Path, results: RunResults, samples: dict[str, list[dict[str, Any]]] | None = None) -> Path:
    """A run directory; ``samples`` maps a path under it to the rows of a ``samples.jsonl``."""
    run = folder / results.run_id
    run.mkdir(parents=True)
    results.save(run)
    (run / "spec.yaml").write_text("model: smollm2-135m\n", encoding="utf-8")
    manifest = {
        "status": results.status,
        "created": "2026-11-22T20:00:00+00:00",
        "command": "dasd-bench run --method sft,dasd --model smollm2-135m",
        "model": {"name": results.model, "sha256": "0" * 64, "dtype": "float32"},
        "budget": "equal",
    }
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    for name, rows in (samples or {}).items():
        path = run / name / "samples.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return run


@pytest.fixture
def build() -> SimpleNamespace:
    return SimpleNamespace(
        task=make_task,
        score=make_score,
        targets=make_targets,
        note=make_note,
        arm=make_arm,
        run=make_run,
        write=write_run,
    )
