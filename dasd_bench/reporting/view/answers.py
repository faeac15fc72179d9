"""The answers of a run side by side: every item of a task, with a column for each row and seed that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dasd_bench.errors import DasdError
from dasd_bench.reporting.entries import Entry, entries
from dasd_bench.reporting.question import question_start
from dasd_bench.results.runs import load_run
from dasd_bench.results.samples import Sample, read_samples
from dasd_bench.types import Reason

PAGE_ITEMS = 20


@dataclass(frozen=True, slots=True)
class Item:
    """One item: its question, and one answer by column, None where a column lacks it."""

    id: str
    question: str
    expected: str | None
    answers: dict[str, Sample | None]


@dataclass(frozen=True, slots=True)
class AnswersPage:
    """What one page shows and what may be chosen. ``page`` counts from 1; ``missing`` names absent files."""

    tasks: list[str]
    task: str
    columns: list[str]
    shown: list[str]
    reasons: list[str]
    row: str
    reason: str
    search: str
    items: list[Item]
    count: int
    total: int
    page: int
    pages: int
    missing: list[str]


def answers_page(run: Path, asked: Sequence[tuple[str, str]]) -> AnswersPage:
    """One page of a run's answers, by ``task``, ``row`` with ``reason`` (how that row ended), ``search`` and ``page``.

    ``show`` names the columns, each one anew (default: the first seed of every row).

    A value that the run does not have counts as not given. Raises :class:`DasdError` for a run without answers.
    """
    query = dict(asked)
    results = load_run(run)
    names = [task.name for task in results.tasks if any(entry.scores(task.name) for entry in entries(results))]
    if not names:
        raise DasdError(f"Run {results.run_id} has no answers yet.")
    task = query["task"] if query.get("task") in names else names[0]
    columns, first, missing = _columns(run, entries(results), task)
    shown = [value for name, value in asked if name == "show" and value in columns] or first
    row = query["row"] if query.get("row") in columns else ""
    reason = query["reason"] if query.get("reason") in {one.value for one in Reason} else ""
    search = query.get("search", "").strip()
    found = [item for item in _items(columns) if _fits(item, row, reason, search.lower())]
    pages = max(1, -(-len(found) // PAGE_ITEMS))
    number = query.get("page", "")
    page = min(pages, max(1, int(number) if number.isdecimal() and len(number) < 9 else 1))
    return AnswersPage(
        tasks=names,
        task=task,
        columns=list(columns),
        shown=shown,
        reasons=sorted({sample.reason.value for samples in columns.values() for sample in samples}),
        row=row,
        reason=reason,
        search=search,
        items=found[(page - 1) * PAGE_ITEMS : page * PAGE_ITEMS],
        count=len(found),
        total=max((len(samples) for samples in columns.values()), default=0),
        page=page,
        pages=pages,
        missing=missing,
    )


def _columns(run: Path, rows: list[Entry], task: str) -> tuple[dict[str, list[Sample]], list[str], list[str]]:
    """The samples by column, the columns that hold the first seed of a row, and why others are not here."""
    found: dict[str, list[Sample]] = {}
    first: dict[str, str] = {}
    missing: list[str] = []
    for entry in rows:
        for seed in entry.seeds(task):
            name = entry.label if seed is None else f"{entry.label}, seed {seed}"
            try:
                found[name] = read_samples(entry.directory(run, seed).samples(task))
                first.setdefault(entry.label, name)
            except DasdError as error:
                missing.append(str(error))
    return found, list(first.values()), missing


def _items(columns: Mapping[str, list[Sample]]) -> list[Item]:
    by_id = {column: {sample.id: sample for sample in samples} for column, samples in columns.items()}
    items = []
    for name in dict.fromkeys(name for samples in by_id.values() for name in samples):
        answers = {column: samples.get(name) for column, samples in by_id.items()}
        one = next(answer for answer in answers.values() if answer is not None)
        items.append(Item(name, one.prompt[question_start(one.prompt) :].strip(), one.answer, answers))
    return items


def _fits(item: Item, row: str, reason: str, search: str) -> bool:
    asked = [item.answers[row]] if row else item.answers.values()
    if reason and not any(answer is not None and answer.reason == reason for answer in asked):
        return False
    if not search:
        return True
    texts = [item.id, item.question, *(answer.completion for answer in item.answers.values() if answer is not None)]
    return any(search in text.lower() for text in texts)
