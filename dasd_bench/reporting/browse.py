"""Selects records of a run and shows them: panels on a terminal, plain text when piped, or one JSON object each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.panel import Panel
from rich.text import Text

from dasd_bench.console import Console
from dasd_bench.errors import UsageError, unknown_name
from dasd_bench.reporting.entries import entries
from dasd_bench.reporting.question import question_start
from dasd_bench.results.runs import load_run
from dasd_bench.results.samples import Sample, read_samples
from dasd_bench.types import Reason


@dataclass(frozen=True, slots=True)
class Query:
    """What to pick; an empty field picks all. ``methods`` may hold ``base``; ``item`` is an id or the end of one."""

    tasks: Sequence[str] = ()
    reasons: Sequence[str] = ()
    methods: Sequence[str] = ()
    seeds: Sequence[int] = ()
    item: str = ""


@dataclass(frozen=True, slots=True)
class Picked:
    """One record with whose it is."""

    task: str
    method: str
    seed: int | None
    sample: Sample


def pick(run: Path, query: Query) -> list[Picked]:
    """The records of a run that match, by task, method, seed and item; raises :class:`UsageError` for unknown names."""
    results = load_run(run)
    rows = entries(results)
    for kind, asked, known in (
        ("task of this run", query.tasks, [task.name for task in results.tasks]),
        ("method of this run", query.methods, [entry.label for entry in rows]),
        ("reason", query.reasons, [reason.value for reason in Reason]),
    ):
        for name in asked:
            if name not in known:
                raise unknown_name(kind, name, known)
    found = []
    for task in query.tasks or [task.name for task in results.tasks]:
        for entry in rows:
            if query.methods and entry.label not in query.methods:
                continue
            for seed in entry.seeds(task):
                if query.seeds and seed not in query.seeds:
                    continue
                for sample in read_samples(entry.directory(run, seed).samples(task)):
                    fits = not query.reasons or sample.reason in query.reasons
                    if fits and (not query.item or sample.id == query.item or sample.id.endswith(f"/{query.item}")):
                        found.append(Picked(task, entry.label, seed, sample))
    if not found:
        raise UsageError(f"No record of {run.name} matches; drop an option, or see 'dasd-bench table {run}'.")
    return found


def show(console: Console, found: Sequence[Picked], limit: int, *, as_json: bool, whole: bool) -> None:
    """Prints the first ``limit`` records (0: all), then how many there are by reason."""
    shown = found[:limit] if limit else found
    if as_json:
        for one in shown:
            record = {"task": one.task, "method": one.method, "seed": one.seed, **one.sample.to_json(timings=True)}
            click.echo(json.dumps(record, ensure_ascii=False))
        return
    for one in shown:
        if console.is_terminal:
            console.renderable(_panel(one, whole))
        else:
            # Not through rich, which would read ":on:" in an answer as an emoji.
            click.echo(f"{_title(one)}\n{_prompt(one.sample, whole)}\n---\n{one.sample.completion.strip()}")
            click.echo(f"=== {_verdict(one.sample)}\n")
    counts = Counter(one.sample.reason for one in found)
    by_reason = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    console.result(f"{len(shown)} of {len(found)} records shown ({by_reason}).")


def _title(one: Picked) -> str:
    who = one.method if one.seed is None else f"{one.method} seed {one.seed}"
    sample = one.sample
    about = [f"level {sample.level}" if sample.level else "", sample.subject or ""]
    return " · ".join(part for part in (sample.id, who, *about) if part)


def _verdict(sample: Sample) -> str:
    found = "no answer found" if sample.extracted is None else f"answer '{_line(sample.extracted)}'"
    parts = [sample.reason.replace("_", " "), found]
    if sample.answer is not None:
        parts.append(f"expected '{_line(sample.answer)}'")
    if sample.tokens:
        parts.append(f"{sample.tokens} tokens")
    if sample.seconds:
        parts.append(f"{sample.seconds:.2f} s")
    return ", ".join(parts)


def _line(text: str, width: int = 60) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 3] + "..."


def _prompt(sample: Sample, whole: bool) -> str:
    text = sample.prompt.strip()
    start = 0 if whole else question_start(text)
    return f"[{start:,} characters of few-shot examples: --full]\n{text[start:]}" if start else text


def _panel(one: Picked, whole: bool) -> Panel:
    right = one.sample.reason == Reason.CORRECT.value
    colour = "green" if right else "red" if one.sample.reason == Reason.WRONG.value else "yellow"
    body = Text(_prompt(one.sample, whole), style="dim")
    body.append("\n\n")
    body.append(one.sample.completion.strip() or "(empty)", style="not dim")
    return Panel(
        body,
        title=Text(_title(one)),
        subtitle=Text(_verdict(one.sample)),
        title_align="left",
        subtitle_align="left",
        border_style=colour,
    )
