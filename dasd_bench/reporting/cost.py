"""What each row of a table cost: steps, tokens trained on and generated, seconds, and how its training went."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from dasd_bench.console import format_seconds
from dasd_bench.reporting.entries import Entry, entries, group_names, usable
from dasd_bench.reporting.format import count, number, percent
from dasd_bench.reporting.table import Cell, Column, Note, Row, Table
from dasd_bench.results.schema import RunResults, StageTime

COLUMNS = (
    Column("steps", "steps"),
    Column("target_tokens", "trained\ntokens"),
    Column("kept_tokens", "active\ntokens"),
    Column("generated_tokens", "generated\ntokens"),
    Column("round_tokens", "tokens in\nrounds"),
    Column("target_seconds", "targets\ns"),
    Column("train_seconds", "training\ns"),
    Column("loss", "last\nloss"),
    Column("nll", "NLL"),
    Column("clipped", "clipped\n%"),
    Column("peak", "peak\nGiB"),
)


def cost_table(results: Sequence[RunResults]) -> Table:
    """Steps, tokens, seconds and memory of each method, per seed, and the seconds of every stage, summed over seeds."""
    usable(results)
    stages = list(dict.fromkeys(stage.name for run in results for stage in _folded(run)))
    rows, missed = [], []
    for group, run in zip(group_names(results), results, strict=True):
        shared = [stage for stage in _folded(run) if not stage.arm]
        if shared:
            rows.append(Row("shared", _stage_cells(shared), group))
        for entry in entries(run):
            own = [stage for stage in _folded(run) if stage.arm == entry.label]
            cells = _stage_cells(own) | _train_cells(entry) | _target_cells(entry)
            if cells:
                rows.append(Row(entry.label, cells, group))
            missed += _missed(entry)
    used = {key for row in rows for key, cell in row.cells.items() if key != "round_tokens" or cell.value}
    columns = [
        *(column for column in COLUMNS if column.key in used),
        *(Column(f"stage:{name}", name.replace(" ", "\n"), block="stages") for name in stages),
    ]
    caption = [
        "Steps, tokens and seconds of a row: per seed, all epochs, means over seeds. Stage times: wall time, summed "
        "over seeds; 'reused' stages were found in the store."
    ]
    total = sum(stage.seconds for run in results for stage in run.stages if not stage.reused)
    if stages:
        caption.append(f"Total compute time in this run: {format_seconds(total)}.")
    if missed:
        caption.append(f"Not matched: {'; '.join(missed)}.")
    return Table("cost", "Cost", columns, rows, caption, notes=[Note(text) for text in NOTES])


NOTES = (
    "Trained tokens: target tokens in all steps, those of weight 0 included. Active tokens: those whose weight was "
    "above 0, after an online rule.",
    "Generated: tokens that models wrote for the targets, whether or not the store had them, and while training; each "
    "token of dual-context decoding counts twice, since it runs two contexts. Tokens in rounds: trained on inside the "
    "method, before the row's own training.",
    "Targets s: making and scoring the targets; what another row had made already took no time. Training s: the "
    "trainer alone, also where the adapter was found in the store.",
    "Last loss: weighted, in the last step. NLL: unweighted, mean over all steps' tokens with a static weight. "
    "Clipped: steps whose gradient norm was above the limit.",
)


def _folded(run: RunResults) -> list[StageTime]:
    """The stages, those of all retention sets and of all adapters saved during training under one name each: ten
    columns say no more than one."""
    kept = {f"evaluate {task.name}" for task in run.tasks if task.retention}
    points = {point.name for arm in run.arms for one in arm.seeds for point in one.points}
    way = {f"evaluate {task.name} at {point}" for task in run.tasks for point in points}
    names = dict.fromkeys(kept, "retention") | dict.fromkeys(way, "during training")
    return [replace(stage, name=names.get(stage.name, stage.name)) for stage in run.stages]


def _missed(entry: Entry) -> list[str]:
    """The seeds of a row that left something of their budget."""
    return [
        f"{entry.label} seed {one.seed} used {stats.budget_tokens - stats.missed_tokens:,} of {stats.budget_tokens:,} "
        "tokens"
        for one in entry.seed_arms()
        if (stats := one.train_stats) is not None and stats.budget_tokens and stats.missed_tokens
    ]


def _target_cells(entry: Entry) -> dict[str, Cell]:
    """What making the targets took, and what was generated in all."""
    costs = [one.target_cost for one in entry.seed_arms()]
    if not costs or None in costs:
        return {}
    known = [cost for cost in costs if cost is not None]
    drawn = [one.train_stats.generated_tokens or 0 for one in entry.seed_arms() if one.train_stats is not None]
    generated = fmean(cost.generated_tokens for cost in known) + (fmean(drawn) if drawn else 0)
    rounds, seconds = fmean(cost.round_tokens for cost in known), fmean(cost.seconds for cost in known)
    return {
        "generated_tokens": Cell(count(generated), generated),
        "round_tokens": Cell(count(rounds), rounds),
        "target_seconds": Cell(number(seconds, 1), seconds),
    }


def _train_cells(entry: Entry) -> dict[str, Cell]:
    stats = [one.train_stats for one in entry.seed_arms() if one.train_stats is not None]
    if not stats:
        return {}
    cells = {
        "target_tokens": fmean(one.target_tokens for one in stats),
        "kept_tokens": fmean(one.kept_tokens for one in stats),
        "steps": fmean(one.steps for one in stats),
    }
    peak = max(one.peak_memory_gib for one in stats)
    loss = fmean(math.nan if one.final_loss is None else one.final_loss for one in stats)
    seconds = fmean(one.seconds for one in stats)
    found = {key: Cell(count(value), value) for key, value in cells.items()}
    found["train_seconds"] = Cell(number(seconds, 1), seconds)
    found["loss"] = Cell(number(loss, 3), _finite(loss))
    found["peak"] = Cell(number(peak), _finite(peak))
    nlls = [one.nll for one in stats if one.nll is not None]
    if len(nlls) == len(stats):
        found["nll"] = Cell(number(fmean(nlls), 3), _finite(fmean(nlls)))
    clipped = [one.clipped_steps / one.steps for one in stats if one.clipped_steps is not None and one.steps]
    if len(clipped) == len(stats):
        found["clipped"] = Cell(percent(fmean(clipped)), fmean(clipped))
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _stage_cells(stages: list[StageTime]) -> dict[str, Cell]:
    cells = {}
    for name in dict.fromkeys(stage.name for stage in stages):
        mine = [stage for stage in stages if stage.name == name]
        seconds = sum(stage.seconds for stage in mine if not stage.reused)
        reused = sum(stage.reused for stage in mine)
        if reused == len(mine):
            text = "reused"
        else:
            text = format_seconds(seconds) + (f", {reused} reused" if reused else "")
        cells[f"stage:{name}"] = Cell(text, seconds, n=len(mine))
    return cells
