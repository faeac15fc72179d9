"""The plan of a run: the graph's stages with what the store has already, tokens and a time estimate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dasd_bench.console import format_seconds
from dasd_bench.errors import PluginError
from dasd_bench.results.schema import StageTime
from dasd_bench.run.context import RunContext
from dasd_bench.run.graph import Graph
from dasd_bench.run.matching import UnknownBudgetError
from dasd_bench.store.atomic import is_plain_file, is_plain_folder, remove, write_json

DEFAULT_RATES = {
    "warmup": 200.0,
    "targets": 120.0,
    "scores": 1500.0,
    "train": 200.0,
    "evaluate": 300.0,
    "nll": 1500.0,
    "outputs": 300.0,
    "drift": 1500.0,
}
"""Tokens per second of a 135M model on two CPU cores, by kind of stage; used until this machine's own are known."""


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One stage of the plan. ``state`` is ``in store``, ``shared`` (an earlier row makes it) or ``to do``."""

    kind: str
    stage: str
    arm: str
    seed: int | None
    state: str
    tokens: int
    seconds: float

    @property
    def who(self) -> str:
        """``dasd seed 0``, or ``base``."""
        return self.arm if self.seed is None else f"{self.arm} seed {self.seed}"


def make_plan(context: RunContext, graph: Graph) -> list[PlanRow]:
    """A row for every stage of the graph, in order."""
    rates = read_rates(context)
    rows: list[PlanRow] = []
    planned: set[tuple[str, str]] = set()
    for stage in graph.walk():
        try:
            stored = stage.entry.finished()
        except UnknownBudgetError:
            # A key that follows from targets which are not made yet: no such result can be in the store.
            due = stage.tokens()
            rows.append(PlanRow(stage.kind, stage.name, stage.label, stage.seed, "to do", due, due / rates[stage.kind]))
            continue
        except PluginError:
            # The arm's plugin fails where keys are made: the run reports it, and there is nothing to plan.
            continue
        if stored:
            state = "in store"
        elif (stage.kind, stage.key) in planned:
            state = "shared"
        else:
            state = "to do"
        planned.add((stage.kind, stage.key))
        due = stage.tokens() if state == "to do" else 0
        rows.append(PlanRow(stage.kind, stage.name, stage.label, stage.seed, state, due, due / rates[stage.kind]))
    return rows


def plan_lines(rows: Sequence[PlanRow]) -> list[str]:
    """The plan as aligned text lines, totals last."""
    width = max([len(row.who) for row in rows] + [3])
    wide = max([len(row.stage) for row in rows] + [5])
    lines = [f"{'stage':<{wide}}  {'arm':<{width}}  {'state':<9}  {'tokens':>9}  estimate"]
    for row in rows:
        estimate = format_seconds(row.seconds) if row.state == "to do" else "-"
        tokens = f"~{row.tokens:,}" if row.state == "to do" else "-"
        lines.append(f"{row.stage:<{wide}}  {row.who:<{width}}  {row.state:<9}  {tokens:>9}  {estimate}")
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
    return DEFAULT_RATES | _known_rates(context).get(_rate_key(context), {})


def _known_rates(context: RunContext) -> dict[str, dict[str, float]]:
    """The store's ``rates.json``: by model and device, tokens per second by stage. Only what makes sense is taken."""
    path = _rates_file(context)
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if is_plain_file(path) else {}
        return {
            key: {kind: float(rate) for kind, rate in rates.items() if kind in DEFAULT_RATES and float(rate) > 0}
            for key, rates in known.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def learn_rates(context: RunContext, rows: Sequence[PlanRow], stages: Sequence[StageTime]) -> None:
    """Keeps what this run taught about the machine: planned tokens over seconds, by kind of stage."""
    planned: dict[str, float] = {}
    spent: dict[str, float] = {}
    due = {(row.stage, row.arm, row.seed): row for row in rows if row.state == "to do" and row.tokens}
    for stage in stages:
        row = due.get((stage.name, stage.arm, stage.seed))
        if row is not None and not stage.reused:
            planned[row.kind] = planned.get(row.kind, 0.0) + row.tokens
            spent[row.kind] = spent.get(row.kind, 0.0) + stage.seconds
    if not planned:
        return
    path = _rates_file(context)
    if is_plain_folder(path):
        remove(path)
    known = _known_rates(context)
    known.setdefault(_rate_key(context), {}).update(
        {kind: planned[kind] / spent[kind] for kind in planned if spent[kind] > 1.0}
    )
    write_json(path, known)
