"""Writes a run directory of any size without a model: for timing the report, and for tests of what reads runs.

The words and numbers are drawn from a seed; scores, statistics and files are written by the package's own code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dasd_bench.registry import discover
from dasd_bench.results.directory import ModelDirectory, RunDirectory
from dasd_bench.results.samples import Sample, write_samples
from dasd_bench.results.schema import (
    Arm,
    PointScores,
    ReferenceNll,
    RunResults,
    SeedArm,
    StageTime,
    TaskInfo,
    TaskScore,
    TrainStats,
    TrainSummary,
)
from dasd_bench.results.target_stats import target_stats
from dasd_bench.results.targets_file import write_targets
from dasd_bench.store.atomic import write_json, write_text
from dasd_bench.types import Example, Mark, Origin, Reason, ScoredTarget, Target, TokenScores, WeightedTarget

WORDS = (
    "the a of and then we add multiply total price apples pens each costs dollars so that gives answer is There are "
    "boxes on shelf days per week hours minutes twice half as many now left over remaining = + - * / 2 3 4 5 12 24 36"
)
PIECES = [f" {word}" for word in WORDS.split()] + [
    ".",
    ",",
    "\n",
    "\n\n",
    "####",
    "<|im_end|>",
    " café",
    " x²",
    " <b>",
    "\t",
]
END = PIECES.index("<|im_end|>")
TAUS = (0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Size:
    """How large the run is: training examples, tokens of each target (about), test items a task, seeds."""

    examples: int = 24
    tokens: int = 40
    items: int = 40
    seeds: tuple[int, ...] = (0, 1)
    steps: int = 12


def make_run(folder: Path, size: Size | None = None, *, status: str = "finished", retention: bool = True) -> Path:
    """Writes a run named ``folder.name`` with base, sft, low-ppl and dasd at three values of tau; gives its folder."""
    size = size or Size()
    tasks = ["gsm8k", "math"] + (["arc_challenge"] if retention else [])
    results = RunResults(
        run_id=folder.name,
        status=status,
        model="smollm2-135m",
        tasks=[_task(name, size, kept=name == "arc_challenge") for name in tasks],
        arms=[],
        base={},
        seeds=list(size.seeds),
        methods=["sft", "low-ppl", *(f"dasd+tau={tau}" for tau in TAUS)],
        train=TrainSummary("LoRA r=16 alpha=32 on all-linear, lr 0.0002 cosine, batch 8, 2 epochs, fp32", "equal"),
        conditions={"dtype": "fp32", "chat template": "abc", "data gsm8k": "d1"},
    )
    for name in tasks:
        rng = np.random.default_rng([7, len(name)])
        results.base[name] = _evaluate(RunDirectory(folder).base, name, size, rng, 0.3)
    for place, label in enumerate(results.methods):
        results.arms.append(_arm(folder, label, place, size, tasks, results.stages))
    results.save(folder)
    write_text(RunDirectory(folder).spec, "# Repeat this run: dasd-bench run -c spec.yaml\nmodel: smollm2-135m\n")
    write_json(RunDirectory(folder).manifest, _manifest(results))
    return folder


def _task(name: str, size: Size, *, kept: bool) -> TaskInfo:
    return TaskInfo(
        name=name,
        metric="exact_match",
        filter="flexible-extract",
        higher_is_better=True,
        comparable=name != "math",
        num_fewshot=5,
        n_items=size.items,
        n_train=0 if kept else size.examples,
        version=3,
        note="" if name != "math" else "prompt of our own",
        retention=kept,
    )


def _evaluate(folder: ModelDirectory, task: str, size: Size, rng: np.random.Generator, share: float) -> TaskScore:
    levels = [str(1 + i % 5) for i in range(size.items)]
    chance = np.clip(share + 0.06 * (3 - np.array([int(level) for level in levels])), 0.02, 0.98)
    right = (rng.random(size.items) < chance).astype(int)
    records = []
    for i, ok in enumerate(right):
        text = "".join(PIECES[k] for k in rng.integers(0, len(WORDS.split()), 30))
        records.append(
            Sample(
                id=f"{task}/test/{i}",
                index=i,
                prompt=f"Question {i}: how many pens are left over?\nAnswer:",
                completion=f"{text}\n#### {i if ok else i + 1}",
                extracted=str(i if ok else i + 1),
                score=float(ok),
                reason=Reason.CORRECT if ok else Reason.WRONG,
                tokens=30,
                metrics={},
            )
        )
    write_samples(folder.samples(task), records)
    return TaskScore.from_items(
        [record.id for record in records],
        correct=[int(v) for v in right],
        reasons={"correct": int(right.sum()), "wrong": int(size.items - right.sum())},
        reference_nll=ReferenceNll(1.9 - share, 1.1 - share, [1.9 - share] * size.items),
        groups={"level": levels} if task == "math" else {},
    )


def _arm(folder: Path, label: str, place: int, size: Size, tasks: list[str], stages: list[StageTime]) -> Arm:
    method, _, option = label.partition("+")
    tau = float(option.partition("=")[2]) if option else None
    options: dict[str, Any] = {"rule": "confidence-gate", "tau": tau} if tau else {}
    arm = Arm(method, options, label, [], "kept", label)
    notes = discover().method(method).item.notes
    for seed in size.seeds:
        where = RunDirectory(folder).arm(label, seed)
        scored = made_targets(size, np.random.default_rng([11, place if tau else 0]), tau)
        weights = [
            np.where(-one.scores.logp > np.log(2.5), 0, 1).astype(np.float32)
            if method == "low-ppl"
            else np.ones(len(one.target.token_ids), np.float32)
            for one in scored
        ]
        targets = list(map(WeightedTarget.of, scored, weights))
        write_targets(where, targets)
        write_json(where.pieces, {str(i): piece for i, piece in enumerate(PIECES)})
        rng = np.random.default_rng([13, place, seed])
        scores = {}
        for name in tasks:
            gain = -0.04 * place if name == "arc_challenge" else 0.02 + 0.03 * place
            scores[name] = _evaluate(where, name, size, rng, 0.3 + gain)
        _metrics(where.metrics, size, rng, 0.6 if method == "low-ppl" else 1.0)
        stats = target_stats(targets, n_examples=size.examples, notes=notes)
        trained = TrainStats(size.steps, 6400, 6000, 60.0 + place, 0.8, 1.5)
        half = {name: _evaluate(where.point("0.5"), name, size, rng, 0.35) for name in tasks}
        points = [PointScores(0.5, size.steps // 2, 3200, 3000, half)]
        arm.seeds.append(SeedArm(seed, scores, stats, trained, points=points))
        shared = seed != size.seeds[0]
        stages.append(StageTime("targets", 0.1 if shared else 30.0 * (place + 1), shared, arm=label, seed=seed))
        stages.append(StageTime("score", 0.1 if shared else 5.0, shared, arm=label, seed=seed))
        stages.append(StageTime("train", 60.0 + 3 * place, arm=label, seed=seed))
    return arm


def made_targets(size: Size, rng: np.random.Generator, tau: float | None) -> list[ScoredTarget]:
    """Targets with scores; with ``tau`` some tokens come from the base and some examples fall back on gold."""
    found = []
    for i in range(size.examples):
        length = max(4, int(size.tokens * rng.uniform(0.8, 1.2)))
        ids = rng.integers(0, len(PIECES) - 5, length).astype(np.int32)
        ids[-1] = END
        logp = -rng.exponential(0.9, length).astype(np.float32)
        top1 = np.minimum(0, np.maximum(logp, -rng.exponential(0.4, length))).astype(np.float32)
        example = Example(
            f"gsm8k/train/{i}", "gsm8k", f"Question {i}: a shop has {i} boxes.\n<b>How many</b> pens?", "gold text"
        )
        right = tau is not None and bool(rng.random() < 0.4 + 0.5 * tau)
        origin = np.full(length, Origin.CANDIDATE if right else Origin.GOLD, dtype=np.uint8)
        notes: dict[str, float] = {}
        proposals = None
        if tau is not None:
            base = rng.random(length) < 0.35 * (1.1 - tau)
            notes = {"gated_tokens": float(length), "gated_replaced": float(base.sum()), "ungated_right": 1.0}
            if right:
                origin[base] = Origin.BASE
                proposals = rng.integers(0, len(PIECES), length).astype(np.int32)
        marks = np.zeros(length, dtype=np.uint8)
        marks[-1] = Mark.END
        target = Target(
            example.id,
            ids,
            origin,
            marks,
            "".join(PIECES[k] for k in ids),
            tau is None or right,
            "gold" if tau is None else "gated" if right else "gold:wrong",
            notes,
            proposals,
        )
        scores = TokenScores(logp, top1, np.abs(logp), np.where(logp < top1, rng.integers(1, 400, length), 0))
        found.append(ScoredTarget(example, target, scores))
    return found


def _metrics(path: Path, size: Size, rng: np.random.Generator, kept: float) -> None:
    lines = []
    for step in range(size.steps):
        loss = 1.8 * np.exp(-2 * step / size.steps) + 0.5 + rng.normal(0, 0.06)
        lines.append(
            {
                "step": step + 1,
                "loss": float(loss),
                "kept_tokens": round(600 * kept),
                "all_tokens": 600,
                "grad_norm": 1.0,
                "lr": 2e-4,
                "tokens_per_second": 900.0,
                "memory_gib": 1.5,
                "seconds": 5.0 * (step + 1),
            }
        )
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def _manifest(results: RunResults) -> dict[str, Any]:
    return {
        "status": results.status,
        "failures": [],
        "created": "2026-11-22T20:00:00+00:00",
        "command": "dasd-bench run --method sft,low-ppl,dasd+tau=0.5,dasd+tau=0.7,dasd+tau=0.9 --model smollm2-135m",
        "model": {"name": results.model, "sha256": "0" * 64, "dtype": "fp32", "licence": "Apache-2.0", "device": "cpu"},
        "seeds": results.seeds,
        "tasks": [{"name": task.name, "train_rows": task.n_train, "test_rows": task.n_items} for task in results.tasks],
        "environment": {"dasd_bench": "0.1.0", "packages": {"torch": "2.13.0"}},
    }
