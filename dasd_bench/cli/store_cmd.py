"""``dasd-bench store``: what the shared results take on the disk, and removing what is no longer needed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dasd_bench.cli.shared import json_option, show_table, store_option
from dasd_bench.console import Console

if TYPE_CHECKING:
    from dasd_bench.store.usage import Share


def store_root(store: Path | None) -> Path:
    """The folder that is meant; raises :class:`UsageError` where a named one is not there."""
    from dasd_bench.errors import UsageError
    from dasd_bench.models.files import user_cache_dir

    if store is not None and not store.is_dir():
        raise UsageError(f"--store {store} is not a folder.")
    return store or user_cache_dir() / "store"


@click.group("store", invoke_without_command=True)
@store_option
@json_option
@click.pass_context
def store_group(context: click.Context, store: Path | None, json_events: bool) -> None:
    """Show the disk use of stored results: by stage, by run and by the time since they were last used.

    Weights that are also in a run directory are hard links: they take space once, and stay until both are removed.
    """
    if context.invoked_subcommand is not None:
        context.obj = store
        return
    from dasd_bench.store.journal import read_journals
    from dasd_bench.store.usage import by_age, by_run, by_stage, scan

    console = Console(json_events=json_events)
    root = store_root(store)
    stored = scan(root)
    console.result(f"Store: {root}", store=str(root))
    if not stored:
        console.result("It is empty.")
        return
    for title, shares in (
        ("stage", by_stage(stored)),
        ("run", by_run(stored, read_journals(root))),
        ("last used", by_age(stored, time.time())),
    ):
        _print_shares(console, title, shares)


def _print_shares(console: Console, title: str, shares: Sequence[Share]) -> None:
    from dasd_bench.models.files import format_bytes

    if console.json_events:
        for share in shares:
            console.result("", by=title, **asdict(share))
        return
    show_table(
        console,
        (title, "entries", "size"),
        [(share.name, str(share.entries), format_bytes(share.size_bytes)) for share in shares],
    )
    console.result("")


@store_group.command("prune")
@click.option("--older-than", metavar="AGE", help="Remove what was not used for this long: 30d, 12h, 4w.")
@click.option("--unused", is_flag=True, help="Remove what no existing run directory uses.")
@click.option("--dry-run", is_flag=True, help="List what would be removed; remove nothing.")
@store_option
@json_option
@click.pass_context
def prune_command(
    context: click.Context, older_than: str | None, unused: bool, dry_run: bool, store: Path | None, json_events: bool
) -> None:
    """Remove stored results; with both conditions, those that meet both. Run directories keep their files.

    Results that a run in progress uses are never removed. Removed results are recomputed when they are needed again.
    """
    from dasd_bench.errors import UsageError
    from dasd_bench.models.files import format_bytes
    from dasd_bench.store.usage import by_stage, candidates, parse_age, prune

    if older_than is None and not unused:
        raise UsageError("Choose what to remove: --older-than 30d, --unused, or both.")
    console = Console(json_events=json_events)
    root = store_root(store or context.obj)
    days = None if older_than is None else parse_age(older_than)
    chosen = candidates(root, older_than_days=days, unused=unused, now=time.time())
    removed = prune(root, chosen, console.notice, dry_run=dry_run)
    if removed:
        _print_shares(console, "stage", by_stage(removed))
    size = sum(one.size_bytes for one in removed)
    console.result(
        f"{'Would remove' if dry_run else 'Removed'} {len(removed)} entr{'y' if len(removed) == 1 else 'ies'} "
        f"({format_bytes(size)}) from {root}.",
        removed=len(removed),
        size_bytes=size,
        dry_run=dry_run,
    )
