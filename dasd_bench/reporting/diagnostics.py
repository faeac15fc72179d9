"""What was trained on and what moved: the tables of ``diagnose``, from run directories alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

from dasd_bench.reporting.details import target_table
from dasd_bench.reporting.entries import Entry, entries, group_names, task_infos, usable
from dasd_bench.reporting.format import count, number, percent
from dasd_bench.reporting.notes import declared_notes, note_column, note_help, note_values
from dasd_bench.reporting.retention import retention_tables
from dasd_bench.reporting.table import Cell, Column, Row, Table
from dasd_bench.results.schema import ClassStats, ReferenceNll, RunResults, TargetStats, TaskScore
from dasd_bench.stats.clustered import ratio_bootstrap, ratio_difference
from dasd_bench.stats.intervals import Interval

KINDS = (("numeric", "numbers and operators"), ("wording", "wording"), ("format", "format and end"))

BINS = (0.0, 0.25, 0.5, math.log(2.5), 2.0, math.log(10.0), math.log(25.0), 6.0)
"""Lower edges, in nats, of the histogram's printed bins; rounded to the stored ones."""


def diagnostic_tables(results: Sequence[RunResults]) -> list[Table]:
    """All diagnostic tables that the runs have something for."""
    usable(results)
    tables = [
        replace(target_table(results), columns=[replace(c, shown=True) for c in target_table(results).columns]),
        class_table(results),
        outcome_table(results),
        histogram_table(results),
        *(nll_table(run, f" ({name})" if len(results) > 1 else "") for name, run in _named(results)),
        *retention_tables(results),
    ]
    return [table for table in tables if table.rows]


def _named(results: Sequence[RunResults]) -> list[tuple[str, RunResults]]:
    return list(zip(group_names(results), results, strict=True))


def _arms(results: Sequence[RunResults]) -> list[tuple[str, Entry, list[TargetStats]]]:
    found = []
    for group, run in _named(results):
        for entry in entries(run):
            stats = [one.target_stats for one in entry.seed_arms() if one.target_stats is not None]
            if stats:
                found.append((group, entry, stats))
    return found


def class_table(results: Sequence[RunResults]) -> Table:
    """Tokens, nll and what selection did, by kind of token; counts are summed over seeds."""
    columns = []
    for key, title in KINDS:
        for name, words in (
            ("share", "tokens %"),
            ("nll", "nll"),
            ("hpr", "HPR@2.5"),
            ("replaced", "replaced %"),
            ("zero", "weight 0 %"),
        ):
            columns.append(Column(f"{key}:{name}", f"{title}\n{words}", block=key))
    rows = []
    for group, entry, stats in _arms(results):
        cells: dict[str, Cell] = {}
        total = sum(one.tokens for one in stats)
        for key, _ in KINDS:
            mine = [one.classes[key] for one in stats if key in one.classes]
            if mine and total:
                cells |= {f"{key}:{name}": cell for name, cell in _class_cells(mine, total).items()}
        if cells:
            rows.append(Row(entry.label, cells, group))
    caption = [
        "Tokens are classified by their text: numbers and operators; format (the task's answer markers, end of turn, "
        "line breaks, heading marks); wording (all others). NLL and HPR are under the untrained model given only the "
        "question.",
        "Replaced: share of this kind's candidate tokens in dual-context decoding that gave way to a base token. "
        "Weight 0: share of this kind's tokens that the static selection excludes.",
    ]
    return Table("classes", "Selection by kind of token", columns, rows, caption)


def _class_cells(mine: Sequence[ClassStats], total: int) -> dict[str, Cell]:
    tokens = sum(one.tokens for one in mine)
    proposed, replaced = sum(one.proposed for one in mine), sum(one.replaced for one in mine)
    cells = {"share": Cell(percent(tokens / total), tokens / total, n=tokens)}
    if tokens:
        nll = math.fsum(one.mean_nll * one.tokens for one in mine if one.mean_nll is not None) / tokens
        high, zero = (sum(getattr(one, name) for one in mine) / tokens for name in ("high_ppl", "weight_zero"))
        cells["nll"] = Cell(number(nll, 3), nll)
        cells["hpr"] = Cell(number(high, 3), high)
        cells["zero"] = Cell(percent(zero), zero, n=tokens)
    if proposed:
        cells["replaced"] = Cell(percent(replaced / proposed), replaced / proposed, n=proposed)
    return cells


def outcome_table(results: Sequence[RunResults]) -> Table:
    """How many targets were accepted, refused and why, and what methods count in whole numbers; summed over seeds."""
    arms = _arms(results)
    reasons = list(dict.fromkeys(reason for _, _, stats in arms for one in stats for reason in one.reasons))
    columns = [Column("accepted", "accepted"), Column("dropped", "dropped")]
    counted = declared_notes(results, hows=["sum"])
    columns += [replace(note_column(note), shown=True) for note in counted]
    columns += [Column(f"reason:{name}", name.replace(":", ":\n"), block="reasons") for name in reasons]
    rows = []
    for group, entry, stats in arms:
        cells = {
            "accepted": _count(sum(one.accepted for one in stats)),
            "dropped": _count(sum(one.dropped for one in stats)),
        }
        for note in counted:
            if noted := note_values(stats, note.name):
                cells[f"note:{note.name}"] = _count(math.fsum(noted))
        for name in reasons:
            found = sum(one.reasons.get(name, 0) for one in stats)
            if found:
                cells[f"reason:{name}"] = _count(found)
        rows.append(Row(entry.label, cells, group))
    caption = [
        "Targets, summed over seeds. The word after a colon says why the method's own answer was rejected.",
        *([text] if (text := note_help(counted)) else []),
    ]
    return Table("outcomes", "Acceptance", columns, rows, caption)


def _count(value: float) -> Cell:
    return Cell(count(value), value)


def histogram_table(results: Sequence[RunResults]) -> Table:
    """The share of target tokens by perplexity under the untrained model."""
    columns: list[Column] = []
    rows = []
    for group, entry, stats in _arms(results):
        edges = stats[0].histogram_edges
        total = sum(sum(one.histogram_counts) for one in stats)
        if not edges or not total:
            continue
        lower = sorted({min(edges, key=lambda edge: abs(edge - wanted)) for wanted in BINS})
        cells = {}
        for index, low in enumerate(lower):
            high = lower[index + 1] if index + 1 < len(lower) else math.inf
            key = f"nll:{low:g}"
            title = f"{low:g}-{high:g}" if math.isfinite(high) else f"{low:g} up"
            ppl = f"ppl {math.exp(low):.3g} up"
            if key not in {column.key for column in columns}:
                columns.append(Column(key, f"{title}\n{ppl}", block="histogram"))
            inside = sum(
                counted
                for one in stats
                for edge, counted in zip(one.histogram_edges, one.histogram_counts, strict=True)
                if low <= edge < high
            )
            cells[key] = Cell(percent(inside / total), inside / total, n=inside)
        rows.append(Row(entry.label, cells, group))
    caption = ["Percent of target tokens by NLL (nats) under the untrained model; results.json has 49 bins."]
    return Table("histogram", "Target tokens by NLL", columns, rows, caption)


Part = Callable[[TaskScore], tuple[list[float], list[int]] | None]
"""Total nll (nats) and tokens per item; None where a score has none."""


def nll_table(run: RunResults, suffix: str = "") -> Table:
    """Teacher-forced nll of the test references and of the base's own right answers; changes paired by item."""
    listed = entries(run)
    base = listed[0] if listed and listed[0].is_base else None
    arms = [entry for entry in listed if not entry.is_base]
    rows = []
    for task in task_infos([run]):
        for words, part in (
            ("reference, all tokens", _all_tokens),
            ("reference, numeric tokens", _numeric_tokens),
            ("base's own correct answers", _own_answers),
        ):
            before = part(base.scores(task.name)[0]) if base is not None and base.scores(task.name) else None
            if before is None or not sum(before[1]):
                continue
            totals, sizes = before
            items = sum(size > 0 for size in sizes)
            value = math.fsum(totals) / sum(sizes)
            cells = {
                "n": Cell(str(items), items),
                "tokens": Cell(count(sum(sizes)), sum(sizes)),
                "base": _with(Cell(number(value, 3), value, n=items), ratio_bootstrap(totals, sizes), signed=False),
            }
            for entry in arms:
                cell = _change(entry, task.name, part, totals, sizes)
                if cell is not None:
                    cells[entry.label] = cell
            rows.append(Row(f"{task.name}: {words}", cells))
    columns = [Column("n", "items"), Column("tokens", "tokens"), Column("base", "base")]
    columns += [Column(entry.label, f"{entry.label}\nchange", "down") for entry in arms]
    caption = [
        "Nats per token with 95 % intervals. base: NLL; methods: change from base, paired by item (bootstrap over "
        "items, seeds averaged within items). Negative: more likely after training.",
        "Base's own correct answers: an increase means that the model is unlearning its own way of answering. For "
        "multiple choice these are the references of the items that base got right.",
    ]
    return Table("nll", f"Teacher-forced NLL{suffix}", columns, rows, caption, row_title="what")


def _change(entry: Entry, task: str, part: Part, before: Sequence[float], sizes: Sequence[int]) -> Cell | None:
    found = [part(one) for one in entry.scores(task)]
    own = [one for one in found if one is not None and one[1] == list(sizes)]
    if not own or len(own) != len(found):
        return None
    after = [fmean(item) for item in zip(*(totals for totals, _ in own), strict=True)]
    difference, interval = ratio_difference(after, before, [float(size) for size in sizes])
    return _with(Cell(f"{difference:+.3f}", difference), interval, signed=True)


def _with(cell: Cell, interval: Interval, *, signed: bool) -> Cell:
    low, high = (f"{end:+.3f}" if signed else number(end, 3) for end in (interval.low, interval.high))
    return replace(cell, detail=f"[{low}, {high}]", low=interval.low, high=interval.high)


def _all_tokens(score: TaskScore) -> tuple[list[float], list[int]] | None:
    nll = score.reference_nll
    return None if nll is None or not nll.tokens_per_item else _totals(nll.per_item, nll.tokens_per_item)


def _numeric_tokens(score: TaskScore) -> tuple[list[float], list[int]] | None:
    nll: ReferenceNll | None = score.reference_nll
    if nll is None or not nll.numeric_tokens_per_item:
        return None
    return _totals(nll.numeric_per_item, nll.numeric_tokens_per_item)


def _own_answers(score: TaskScore) -> tuple[list[float], list[int]] | None:
    own = score.reference_nll.own if score.reference_nll is not None else None
    return None if own is None else _totals(own.per_item, own.tokens_per_item)


def _totals(means: Sequence[float], sizes: Sequence[int]) -> tuple[list[float], list[int]]:
    return [mean * size for mean, size in zip(means, sizes, strict=True)], list(sizes)
