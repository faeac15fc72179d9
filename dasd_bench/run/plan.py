"""The plan of a run: the graph's stages with what the store has already, tokens and a time estimate."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from dasd_bench.console import format_seconds
from dasd_bench.engine.threads import usable_cores
from dasd_bench.errors import PluginError
from dasd_bench.resources.fit import gib
from dasd_bench.resources.gpus import planned_gpu
from dasd_bench.resources.work import Work
from dasd_bench.results.schema import StageTime
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import TaskData
from dasd_bench.run.estimate import Estimate, Estimator
from dasd_bench.run.matching import UnknownBudgetError
from dasd_bench.run.memory import available
from dasd_bench.run.stages.base import Stage
from dasd_bench.store.atomic import is_plain_file, is_plain_folder, remove, write_json

FALLBACK_RATE = 200.0
"""Tokens per second where nothing is known of the model's shape."""

NOTHING = "nothing"
"""In place of a train stage's key: no model is in memory."""


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One stage of the plan. ``state`` is ``in store``, ``shared`` (an earlier row makes it) or ``to do``.

    ``memory_gib`` is the process's peak (or the GPU's), ``disk_gib`` what the stage writes, both 0 where that is not
    known or nothing is to do. ``advice`` says why it does not fit and what to change, ``changes`` how training fits.
    """

    kind: str
    stage: str
    arm: str
    seed: int | None
    state: str
    tokens: int
    seconds: float
    memory_gib: float = 0.0
    disk_gib: float = 0.0
    advice: str = ""
    changes: tuple[str, ...] = ()

    @property
    def who(self) -> str:
        """``dasd seed 0``, or ``base``."""
        return self.arm if self.seed is None else f"{self.arm} seed {self.seed}"


class StageGraph(Protocol):
    """Stages in the order in which they are worked off."""

    def walk(self) -> Iterator[Stage[Any]]:
        """Every stage."""


def make_plan(context: RunContext, graph: StageGraph, planned: set[tuple[str, str]] | None = None) -> Planner:
    """A row for every stage of the graph, in order.

    ``planned`` are the stages of earlier runs of the same plan, by kind and key; this run's are added to it.
    """
    planner = Planner(estimator_of(context), {} if context.assumed_gpu else read_rates(context))
    planned = set() if planned is None else planned
    for stage in graph.walk():
        try:
            stored = stage.entry.finished()
        except UnknownBudgetError:
            # A key that follows from targets which are not made yet: no such result can be in the store.
            trained = None if stage.kind == "train" else f"{stage.label} seed {stage.seed}"
            planner.add(stage.kind, stage.name, stage.label, stage.seed, "to do", stage.work(), trained)
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
        planner.add(stage.kind, stage.name, stage.label, stage.seed, state, stage.work(), stage.trained)
    return planner


class Planner:
    """Rows of a plan in the order of a run: which model is in memory decides when weights are read again.

    ``rates`` are tokens per second by kind of stage where they were measured; other times follow from arithmetic.
    """

    def __init__(self, estimator: Estimator | None, rates: Mapping[str, float]) -> None:
        self.estimator, self.rates = estimator, rates
        self.rows: list[PlanRow] = []
        self._computed = False
        self._loaded: str | None = NOTHING

    def add(
        self, kind: str, name: str, arm: str, seed: int | None, state: str, work: Work, trained: str | None
    ) -> None:
        """The row of one stage; ``trained`` names the adapter it needs, None the base."""
        if state != "to do":
            self.rows.append(PlanRow(kind, name, arm, seed, state, 0, 0.0))
            return
        found = Estimate() if self.estimator is None else self.estimator.estimate(work, f"Stage '{name}' of {arm}")
        row = PlanRow(kind, name, arm, seed, state, work.tokens, self._seconds(kind, work, trained))
        memory, disk = found.memory_bytes / 2**30, found.disk_bytes / 2**30
        self.rows.append(replace(row, memory_gib=memory, disk_gib=disk, advice=found.advice, changes=found.changes))

    def _seconds(self, kind: str, work: Work, trained: str | None) -> float:
        if work.kind == "none":
            return 0.0
        if kind in self.rates:
            return work.tokens / self.rates[kind]
        if self.estimator is None:
            return work.tokens / FALLBACK_RATE
        self._computed = True
        loads = work.kind == "train" or trained != self._loaded
        self._loaded = NOTHING if work.kind == "train" else trained
        return self.estimator.seconds(work) + (self.estimator.load_seconds() if loads else 0.0)

    def notes(self) -> list[str]:
        """Sentences below the plan: what the times assume, how training fits, and what does not fit."""
        lines = self._totals()
        if self._computed and self.estimator is not None:
            lines.append(self.estimator.speed.sentence())
        changes = dict.fromkeys(change for row in self.rows for change in row.changes)
        if changes:
            lines.append(f"To fit into memory, training will use {', '.join(changes)}.")
        return lines + self._lacking()

    def _totals(self) -> list[str]:
        """What all stages together take of the device and of the disk."""
        due = [row for row in self.rows if row.state == "to do"]
        peak, disk = max((row.memory_gib for row in due), default=0.0), sum(row.disk_gib for row in due)
        if self.estimator is None or not peak:
            return []
        line = f"Peak memory {_gib(peak)} per device; {_gib(disk)} of disk for new results"
        if not self.estimator.packs:
            hours = sum(row.seconds for row in due) / 3600
            line += f"; {f'about {hours:,.1f}' if hours >= 0.1 else 'less than 0.1'} GPU-hours"
        return [line + "."]

    def _lacking(self) -> list[str]:
        """One sentence for training and one for the rest, on the stage that needs most."""
        lines = []
        for trains in (False, True):
            rows = [row for row in self.rows if row.advice and (row.kind == "train") is trains]
            if rows:
                most = max(rows, key=lambda row: row.memory_gib)
                more = len(rows) - 1
                others = f" {more} more stage{'s do' if more > 1 else ' does'} not fit either." if more else ""
                lines.append(most.advice + others)
        return lines


def estimator_of(context: RunContext) -> Estimator | None:
    """What estimates are made with; None where the model's shape is not known."""
    if context.shape is None:
        return None
    gpu = planned_gpu(context.device, context.assumed_gpu)
    return Estimator(
        context.shape,
        context.dtype,
        context.device,
        available(context) if gpu is None else gpu.free,
        context.spec.engine.max_num_seqs,
        None if gpu is None else gpu.speed(context.dtype),
    )


def scale_line(data: Sequence[TaskData], rows: Sequence[PlanRow]) -> str:
    """How large a run is, in one sentence: rows, items, trainings, time."""
    train, test = sum(len(one.train) for one in data), sum(len(one.test) for one in data)
    trainings = sum(row.kind == "train" for row in rows)
    seconds = sum(row.seconds for row in rows if row.state == "to do")
    return (
        f"Scale: {_many(train, 'training row')} and {_many(test, 'test item')} in all, {_many(trainings, 'training')}, "
        f"about {format_seconds(seconds)}; --train-limit and --limit make it smaller."
    )


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def plan_lines(rows: Sequence[PlanRow]) -> list[str]:
    """The plan as aligned text lines, totals last."""
    width = max([len(row.who) for row in rows] + [3])
    wide = max([len(row.stage) for row in rows] + [5])
    lines = [
        f"{'stage':<{wide}}  {'arm':<{width}}  {'state':<9}  {'tokens':>9}  {'time':>8}  {'memory':>9}  {'disk':>9}"
    ]
    for row in rows:
        cells = ["-"] * 4
        if row.state == "to do":
            cells = [f"~{row.tokens:,}", format_seconds(row.seconds), _gib(row.memory_gib), _gib(row.disk_gib)]
        tokens, seconds, memory, disk = cells
        start = f"{row.stage:<{wide}}  {row.who:<{width}}  {row.state:<9}"
        lines.append(f"{start}  {tokens:>9}  {seconds:>8}  {memory:>9}  {disk:>9}")
    due = [row for row in rows if row.state == "to do"]
    total = sum(row.seconds for row in due)
    shared = sum(row.state == "shared" for row in rows)
    stored = sum(row.state == "in store" for row in rows)
    lines.append(
        f"{len(due)} stages to do, {shared} shared within this run, {stored} in the store; "
        f"about {format_seconds(total)} in all (a rough estimate)."
    )
    return lines


def _gib(amount: float) -> str:
    return gib(amount * 2**30) if amount else "-"


def _rates_file(context: RunContext) -> Path:
    return context.store.root / "rates.json"


def _rate_key(context: RunContext) -> str:
    return f"{context.model.sha256[:16]}/{context.dtype}/{context.device}"


def read_rates(context: RunContext) -> dict[str, float]:
    """Planned tokens per second by stage, of those that were measured on this machine with this model."""
    return _known_rates(context).get(_rate_key(context), {})


def _known_rates(context: RunContext) -> dict[str, dict[str, float]]:
    """The store's ``rates.json``: by model and device, tokens per second by stage. Only what makes sense is taken."""
    path = _rates_file(context)
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if is_plain_file(path) else {}
        return {
            key: {kind: float(rate) for kind, rate in rates.items() if float(rate) > 0} for key, rates in known.items()
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
            # Without what other processes took: the next plan is for the machine as it usually is.
            own = max(stage.seconds - stage.waited_seconds, stage.cpu_seconds / max(1, usable_cores()), 1e-3)
            spent[row.kind] = spent.get(row.kind, 0.0) + min(own, stage.seconds)
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
