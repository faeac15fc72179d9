"""The plan of a run: its stages, what the store has already, tokens and a time estimate. Loads no weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dasd_bench.results.schema import StageTime
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import TaskData, all_train
from dasd_bench.run.keys import arm_keys, evaluate_key, makes_own_targets, nll_key, train_data_key
from dasd_bench.store.atomic import write_json
from dasd_bench.types import Example

CHARACTERS_PER_TOKEN = 3.5
DEFAULT_RATES = {"targets": 120.0, "score": 1500.0, "train": 200.0, "evaluate": 300.0, "nll": 1500.0}
"""Tokens per second of a 135M model on two CPU cores; used until this machine's own rates are known."""


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One stage of the plan. ``same_as`` names an earlier row of this plan that makes the same result."""

    stage: str
    arm: str
    state: str
    tokens: int
    seconds: float


def make_plan(context: RunContext, data: Sequence[TaskData]) -> list[PlanRow]:
    """All stages in order with their state: ``in store``, ``shared`` with an earlier row, or ``to do``."""
    rates = read_rates(context)
    rows: list[PlanRow] = []
    planned: set[str] = set()

    def add(stage: str, name: str, arm: str, key: str, tokens: int) -> None:
        if context.store.entry(stage, key).finished():
            state = "in store"
        elif key in planned:
            state = "shared"
        else:
            state = "to do"
        planned.add(key)
        due = tokens if state == "to do" else 0
        rows.append(PlanRow(name, arm, state, due, due / rates[stage]))

    examples = all_train(list(data)) if context.arms else []
    data_key = train_data_key(list(data))
    gold = sum(text_tokens(e.reference) for e in examples)
    prompts = sum(text_tokens(e.prompt) for e in examples)
    for arm in context.arms:
        for seed in context.spec.seeds:
            keys = arm_keys(context, arm, seed, data_key)
            generated = 2 * gold if makes_own_targets(arm.method) else 0
            add("targets", "targets", f"{arm.label} seed {seed}", keys.targets, generated)
    tested = [one for one in data if one.test]
    for one in tested:
        add("evaluate", f"evaluate {one.name}", "base", evaluate_key(context, one, None), evaluate_tokens(one))
        if not one.retention:
            add("nll", f"reference nll {one.name}", "base", nll_key(context, one, None), nll_tokens(one.test))
    for arm in context.arms:
        for seed in context.spec.seeds:
            who = f"{arm.label} seed {seed}"
            keys = arm_keys(context, arm, seed, data_key)
            add("train", "train", who, keys.train, int((gold + prompts) * arm.training.epochs))
            for one in tested:
                add(
                    "evaluate",
                    f"evaluate {one.name}",
                    who,
                    evaluate_key(context, one, keys.train),
                    evaluate_tokens(one),
                )
                if one.retention:
                    continue
                add("nll", f"reference nll {one.name}", who, nll_key(context, one, keys.train), nll_tokens(one.test))
    return rows


def text_tokens(text: str) -> int:
    """A rough count of tokens without a tokenizer."""
    return int(len(text) / CHARACTERS_PER_TOKEN) + 1


def evaluate_tokens(data: TaskData) -> int:
    """Rough tokens of an evaluation: prompts, and the generation budget half used."""
    budget = data.task.max_new_tokens or 0
    return sum(text_tokens(e.prompt) + budget // 2 for e in data.test)


def nll_tokens(examples: Sequence[Example]) -> int:
    """Rough tokens of scoring the references."""
    return sum(text_tokens(e.prompt) + text_tokens(e.reference) for e in examples)


def plan_lines(rows: Sequence[PlanRow]) -> list[str]:
    """The plan as aligned text lines, totals last."""
    from dasd_bench.console import format_seconds

    width = max([len(row.arm) for row in rows] + [3])
    wide = max([len(row.stage) for row in rows] + [5])
    lines = [f"{'stage':<{wide}}  {'arm':<{width}}  {'state':<9}  {'tokens':>9}  estimate"]
    for row in rows:
        estimate = format_seconds(row.seconds) if row.state == "to do" else "-"
        tokens = f"~{row.tokens:,}" if row.state == "to do" else "-"
        lines.append(f"{row.stage:<{wide}}  {row.arm:<{width}}  {row.state:<9}  {tokens:>9}  {estimate}")
    due = [row for row in rows if row.state == "to do"]
    total = sum(row.seconds for row in due)
    shared = sum(row.state == "shared" for row in rows)
    stored = sum(row.state == "in store" for row in rows)
    lines.append(
        f"{len(due)} stages to do, {shared} shared within this run, {stored} in the store; "
        f"about {format_seconds(total)} in all (a rough estimate)."
    )
    return lines


def _rates_file(context: RunContext) -> Path:
    return context.store.root / "rates.json"


def _rate_key(context: RunContext) -> str:
    return f"{context.model.sha256[:16]}/{context.dtype}/{context.device}"


def read_rates(context: RunContext) -> dict[str, float]:
    """Planned tokens per second by stage: measured on this machine with this model where known."""
    try:
        known = json.loads(_rates_file(context).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    own: dict[str, float] = known.get(_rate_key(context), {})
    return DEFAULT_RATES | own


def learn_rates(context: RunContext, rows: Sequence[PlanRow], stages: Sequence[StageTime]) -> None:
    """Keeps what this run taught about the machine: planned tokens over seconds, by stage."""
    planned: dict[str, float] = {}
    spent: dict[str, float] = {}
    tokens = {(row.stage, row.arm): row.tokens for row in rows if row.state == "to do" and row.tokens}
    for stage in stages:
        who = stage.arm if stage.seed is None else f"{stage.arm} seed {stage.seed}"
        kind = "nll" if stage.name.startswith("reference nll") else stage.name.split()[0]
        if not stage.reused and (stage.name, who) in tokens and kind in DEFAULT_RATES:
            planned[kind] = planned.get(kind, 0.0) + tokens[(stage.name, who)]
            spent[kind] = spent.get(kind, 0.0) + stage.seconds
    if not planned:
        return
    path = _rates_file(context)
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    known.setdefault(_rate_key(context), {}).update(
        {kind: planned[kind] / spent[kind] for kind in planned if spent[kind] > 1.0}
    )
    write_json(path, known)
