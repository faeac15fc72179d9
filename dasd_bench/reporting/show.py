"""Prints runs: their tables, one run whole, the list of runs, a comparison."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from dasd_bench.console import Console
from dasd_bench.reporting.along import along_table
from dasd_bench.reporting.compare import Change, Comparison
from dasd_bench.reporting.cost import cost_table
from dasd_bench.reporting.details import reason_table, target_table
from dasd_bench.reporting.lengths import answer_table
from dasd_bench.reporting.question import question_start
from dasd_bench.reporting.render.machine import table_object
from dasd_bench.reporting.render.terminal import renderables, terminal_text
from dasd_bench.reporting.retention import retention_tables
from dasd_bench.reporting.scores import run_table
from dasd_bench.reporting.table import MISSING, Cell, Column, Row, Table
from dasd_bench.results.directory import RESULTS_FILE, TABLES_FILE, RunDirectory
from dasd_bench.results.runs import RunSummary, list_runs, load_run, manifest_lines, read_manifest
from dasd_bench.results.samples import Sample
from dasd_bench.results.schema import RunResults

PIPED_WIDTH = 110
"""Columns of a table that does not go to a terminal."""

COMPLETION_LINES = 12
"""Lines shown of one completion."""


def run_tables(results: Sequence[RunResults], baseline: str = "base") -> list[Table]:
    """The tables of one run or several that have rows: scores, along training, retention, answer lengths, failures,
    training targets, cost."""
    tables = [
        run_table(results, baseline=baseline),
        along_table(results),
        *retention_tables(results),
        answer_table(results),
        reason_table(results),
        target_table(results),
        cost_table(results),
    ]
    return [table for table in tables if table.rows]


def print_tables(console: Console, tables: Sequence[Table], *, notes: bool = False) -> None:
    """Prints warnings and tables: styled on a terminal at its width, plain when piped, one event each as JSON.

    Without ``notes`` a line says where they are.
    """
    for table in tables:
        for warning in table.warnings:
            console.warn(warning)
    if console.json_events:
        for table in tables:
            console.event("table", table=table_object(table))
    elif console.is_terminal:
        for part in renderables(tables, console.rich.width, notes=notes):
            console.renderable(part)
    else:
        console.result(terminal_text(tables, PIPED_WIDTH, notes=notes).rstrip("\n"))
    if not notes and not console.json_events and any(table.notes for table in tables):
        console.say("How these numbers are made: dasd-bench table RUN --notes")


def show_run(console: Console, run: Path) -> None:
    """Prints one run: its tables and warnings first, then its manifest."""
    manifest = read_manifest(run)
    console.result(f"Run {run.name}", path=str(run), manifest=manifest)
    _show_results(console, run, str(manifest.get("status", "")))
    if console.json_events:
        return
    console.result("")
    for line in manifest_lines(manifest) if manifest else ["No manifest.json: the run was interrupted or is at work."]:
        console.result(line)


def _show_results(console: Console, run: Path, status: str) -> None:
    if not RunDirectory(run).results.exists():
        if status in ("finished", "partial"):
            console.result(f"This run is {status}, but its {RESULTS_FILE} is not here, so its tables cannot be made.")
            if (run / TABLES_FILE).is_file():
                console.result(f"Its {TABLES_FILE} as it was written:\n")
                console.result((run / TABLES_FILE).read_text(encoding="utf-8"))
        else:
            console.result("No results yet: rerun the same command to resume.")
        return
    results = load_run(run)
    if results.status == "cancelled":
        console.result("This run was cancelled, so its numbers are not shown; rerun its command to finish it.")
        return
    print_tables(console, run_tables([results]))
    for text in [*results.warnings, *results.notes]:
        console.result(f"Note: {text}")


def print_runs(console: Console, folder: Path) -> None:
    """Prints the runs under ``folder``, newest first."""
    runs = list_runs(folder)
    if not runs:
        console.result(f"There are no runs in {folder}.", runs=[])
        return
    print_tables(console, [runs_table(runs, folder)])


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Prints why two rows are not comparable (first), the paired tests, and the changed items side by side."""
    if comparison.not_comparable:
        console.warn(f"Not comparable: {'; '.join(comparison.not_comparable)}.")
    for note in comparison.notes:
        console.warn(note)
    print_tables(console, [comparison.table])
    width = console.rich.width if console.is_terminal else PIPED_WIDTH
    if comparison.changes and not console.json_events:
        console.result(f"{len(comparison.changes)} of the items that changed:")
    for change in comparison.changes:
        if console.json_events:
            console.event("changed item", item=change.item, task=change.task, difference=change.difference)
        else:
            console.result("\n".join(change_lines(change, width)))


def change_lines(change: Change, width: int) -> list[str]:
    """One changed item: its whole question (few-shot examples left out), then both completions side by side."""
    better = "A better" if change.difference > 0 else "B better"
    lines = ["", f"{change.item} ({better})"]
    for line in change.prompt[question_start(change.prompt) :].strip().splitlines():
        lines += textwrap.wrap(line, width, initial_indent="  ", subsequent_indent="  ") or [""]
    half = (width - 5) // 2
    left, right = _column(change.a, "A", half), _column(change.b, "B", half)
    for index in range(max(len(left), len(right))):
        one = left[index] if index < len(left) else ""
        other = right[index] if index < len(right) else ""
        lines.append(f"  {one:<{half}} | {other}".rstrip())
    return lines


def _column(sample: Sample, name: str, width: int) -> list[str]:
    found = "no answer found" if sample.extracted is None else f"answer {sample.extracted}"
    lines = textwrap.wrap(f"{name}: {sample.reason or sample.score}, {found}", width)
    body = [part for line in sample.completion.splitlines() for part in textwrap.wrap(line, width) or [""]]
    shown = body[:COMPLETION_LINES]
    if len(body) > len(shown):
        shown[-1] = f"[{len(body) - len(shown) + 1} more lines]"
    return lines + shown


def runs_table(runs: list[RunSummary], folder: Path) -> Table:
    """``list runs`` as a table."""
    columns = [Column(key, key) for key in ("status", "model", "methods", "tasks", "created")]
    rows = [
        Row(
            run.name,
            {
                "status": Cell(run.status),
                "model": Cell(run.model or MISSING),
                "methods": Cell(_joined(run.methods)),
                "tasks": Cell(_joined(run.tasks)),
                "created": Cell(run.created[:16].replace("T", " ") or MISSING),
            },
        )
        for run in runs
    ]
    problems = [run.problem for run in runs if run.problem]
    return Table("runs", f"Runs in {folder}", columns, rows, warnings=problems, row_title="run")


def _joined(names: list[str], limit: int = 32) -> str:
    text = ", ".join(names) or MISSING
    return text if len(text) <= limit else f"{len(names)}: {text[: limit - 6]}..."
