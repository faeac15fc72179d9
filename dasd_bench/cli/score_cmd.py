"""``dasd-bench score``: the completions of a run graded again, without a model."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dasd_bench.cli.complete import run_names
from dasd_bench.cli.shared import json_option, runs_dir_option
from dasd_bench.config.resolve import plugin_folders
from dasd_bench.console import Console

if TYPE_CHECKING:
    from dasd_bench.run.regrade import Regraded


@click.command("score")
@click.argument("run", shell_complete=run_names)
@click.option("-t", "--task", "--tasks", "tasks", multiple=True, help="Only these tasks, comma-separated.")
@click.option("--data-dir", help="Folder with the data rows  [default: as in the run].")
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(0), help="Number of changed items to list.")
@click.option("--confirm-run-unsafe-code", is_flag=True, help="Allow tasks that run model-written code.")
@json_option
@runs_dir_option
def score_command(
    run: str,
    tasks: tuple[str, ...],
    data_dir: str | None,
    dry_run: bool,
    limit: int,
    confirm_run_unsafe_code: bool,
    json_events: bool,
    runs_dir: Path,
) -> None:
    """Regrade the completions of RUN with the current graders; no model is loaded.

    Writes the new verdicts into the run directory (records, results.json, a note in the manifest) and lists what
    changed. The store keeps the old ones.
    """
    from dasd_bench.config.spec import read_file, resolve
    from dasd_bench.errors import StoreError
    from dasd_bench.registry import discover
    from dasd_bench.results.directory import SPEC_FILE
    from dasd_bench.results.runs import find_run
    from dasd_bench.run.regrade import regrade_run
    from dasd_bench.store.locks import FileLock

    console = Console(json_events=json_events)
    folder = find_run(run, runs_dir)
    if not (folder / SPEC_FILE).is_file():
        raise StoreError(f"{folder} has no {SPEC_FILE}, so its rows are unknown and it cannot be regraded.")
    spec = resolve(read_file(folder / SPEC_FILE))
    if data_dir is not None:
        spec = replace(spec, data_dir=data_dir)
    registry = discover(plugin_folders(spec))
    names = [name.strip() for text in tasks for name in text.split(",") if name.strip()]
    with FileLock(folder / ".lock", on_wait=console.say):
        done = regrade_run(
            folder,
            spec,
            registry,
            console,
            tasks=names,
            allow_code=confirm_run_unsafe_code,
            write=not dry_run,
        )
    print_regraded(console, folder, done, limit, dry_run)


def print_regraded(console: Console, run: Path, done: list[Regraded], limit: int, dry_run: bool) -> None:
    """Says how many verdicts changed, where, and which."""
    changes = [change for one in done for change in one.changes]
    items = sum(one.items for one in done)
    verb = "would change" if dry_run else "changed"
    for one in done:
        if one.changes:
            console.result(
                f"{one.answers.task}, {one.answers.who}: {len(one.changes)} of {one.items} {verb}, "
                f"score {100 * one.mean_before:.1f} -> {100 * one.mean_after:.1f}",
                task=one.answers.task,
                row=one.answers.row,
                seed=one.answers.seed,
                changed=len(one.changes),
                items=one.items,
                before=one.mean_before,
                after=one.mean_after,
            )
    for change in changes if console.json_events else changes[:limit]:
        who = change.row if change.seed is None else f"{change.row} seed {change.seed}"
        who += f" at {change.point}" if change.point else ""
        console.result(
            f"  {change.item} ({who}): {change.reason_before} -> {change.reason_after}, "
            f"answer {_shown(change.extracted_before)} -> {_shown(change.extracted_after)}",
            **asdict(change),
        )
    if len(changes) > limit and not console.json_events:
        console.result(f"  and {len(changes) - limit} more (--limit {len(changes)} lists all)")
    console.result(
        f"{run.name}: {len(changes)} of {items} verdicts {verb}.",
        changed=len(changes),
        items=items,
        written=not dry_run,
    )


def _shown(answer: str | None, width: int = 40) -> str:
    if answer is None:
        return "none"
    text = " ".join(answer.split())
    return f"'{text if len(text) <= width else text[: width - 3] + '...'}'"
