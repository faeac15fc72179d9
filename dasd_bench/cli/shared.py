"""What several commands share: options, the console, a plain table, making a run and printing it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dasd_bench.console import Console

if TYPE_CHECKING:
    from dasd_bench.config.spec import RunSpec
    from dasd_bench.registry import Registry
    from dasd_bench.reporting.plots import Source
    from dasd_bench.run.options import RunOptions

F = TypeVar("F", bound=Callable[..., Any])

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

json_option = click.option("--json", "json_events", is_flag=True, help="Emit JSON Lines events.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Only warnings and the tables.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the plan; load no weights.")
config_option = click.option(
    "-c", "--config", type=click.Path(path_type=Path), help="YAML file, overridden by the command line."
)
format_option = click.option(
    "-f", "--format", "form", type=click.Choice(FORMATS), default="terminal", show_default=True
)
output_file_option = click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file."
)
baseline_option = click.option(
    "--baseline", default="base", show_default=True, help="Row that differences and tests compare with."
)
open_option = click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
plugins_option = click.option(
    "--plugins", multiple=True, type=click.Path(path_type=Path), help="Folder with more plugins."
)
store_option = click.option(
    "--store", type=click.Path(path_type=Path), help="Folder for stored results  [default: in the user's cache]"
)


def output_option(what: str, default: str) -> Callable[[F], F]:
    """``--output`` of a command that writes a folder."""
    return click.option("-o", "--output", type=click.Path(path_type=Path), help=f"{what}  [default: {default}]")


def settings_option(text: str) -> Callable[[F], F]:
    """``--set``, as ``settings``."""
    return click.option("--set", "settings", multiple=True, metavar="SECTION.NAME=VALUE", help=text)


def console_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--json`` and ``--quiet``, and passes the ``console`` that they ask for."""

    @functools.wraps(command)
    def called(*args: Any, json_events: bool, quiet: bool, **values: Any) -> Any:
        return command(*args, console=Console(json_events=json_events, quiet=quiet), **values)

    return json_option(quiet_option(called))


def console_of(context: click.Context, as_json: bool = False) -> Console:
    """The console of the command line, or one of its own where a command is called alone or speaks JSON."""
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


def run_and_print(spec: RunSpec, registry: Registry, options: RunOptions, console: Console) -> int:
    """Runs a specification and prints its table; gives the exit code (0, 3 where some arms failed, 130)."""
    from dasd_bench.api import run as run_api
    from dasd_bench.reporting.show import print_tables, run_tables
    from dasd_bench.run.manifest import closing_lines
    from dasd_bench.run.session import RunInterrupted

    started = time.monotonic()
    try:
        results = run_api(spec, options, registry=registry, console=console)
    except RunInterrupted as interrupted:
        console.result(str(interrupted))
        return 130
    print_tables(console, run_tables([results]))
    for line in closing_lines(results, options.output or Path("runs") / results.run_id, time.monotonic() - started):
        console.result(line)
    return 3 if results.status == "partial" else 0


def online_methods(sources: list[Source]) -> set[str]:
    """The installed methods that decide weights on the live model; none where every row says it of itself."""
    if all(arm.online is not None for source in sources for arm in source.results.arms):
        return set()
    from dasd_bench.registry import discover

    return {name for name, plugin in discover(()).methods.items() if plugin.item.online}
