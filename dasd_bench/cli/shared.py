"""What several verbs share: the console, options, a plain table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from dasd_bench.console import Console

FORMATS = ("terminal", "md", "latex", "csv", "json", "html")
"""Formats of tables."""

runs_dir_option = click.option(
    "--runs-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    envvar="DASD_RUNS_DIR",
    help="Folder where runs are looked up by name.",
)


def console_of(context: click.Context, as_json: bool = False) -> Console:
    """The console of the command line, or one of its own where a verb is called alone or speaks JSON."""
    found = context.find_object(Console)
    return found if found is not None and not as_json else Console(json_events=as_json)


def show_table(console: Console, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A rich table on a terminal, aligned plain lines elsewhere."""
    if console.is_terminal:
        import rich.table

        table = rich.table.Table(*header)
        for row in rows:
            table.add_row(*row)
        console.renderable(table)
        return
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        console.result("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
