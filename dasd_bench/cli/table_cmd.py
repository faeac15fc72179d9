"""``dasd-bench table`` and ``compare``, which read run directories. All that is heavy is imported when one runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dasd_bench.cli.complete import run_names
from dasd_bench.cli.shared import baseline_option, console_of, format_option, output_file_option, runs_dir_option
from dasd_bench.console import Console

if TYPE_CHECKING:
    from dasd_bench.reporting.table import Table
    from dasd_bench.results.schema import RunResults

TABLES = ("scores", "along", "retention", "answers", "failures", "targets", "cost", "all")


@click.command("table")
@click.argument("runs", shell_complete=run_names, nargs=-1, metavar="[RUN]...")
@format_option
@click.option(
    "--table", "which", type=click.Choice(TABLES), help="Which table; default: all, scores alone for CSV and --paper."
)
@click.option("--paper", is_flag=True, help="A complete LaTeX document of the scores, ready for pdflatex.")
@click.option("--notes", is_flag=True, help="Explain how each table is made: intervals, tests, training.")
@click.option(
    "--rename",
    "renames",
    multiple=True,
    metavar="NAME=TEXT",
    help="Show a task or method under another name (repeatable); LaTeX has names for the built-in ones.",
)
@click.option(
    "--columns", help="Columns by key, comma-separated; 'gsm8k*' takes all with that prefix. JSON lists the keys."
)
@click.option("--sort", help="Sort the rows by a column key, best first, or by 'method'.")
@click.option(
    "--group-by",
    metavar="level|subject|confidence|seed",
    help="One table of scores by difficulty level, subject, quartile of the base's confidence, or seed.",
)
@click.option("--retention", is_flag=True, help="Only the retention table; same as --table retention.")
@click.option("--along", is_flag=True, help="Only the scores along training; same as --table along.")
@baseline_option
@output_file_option
@runs_dir_option
@click.pass_context
def table_command(
    context: click.Context,
    runs: tuple[str, ...],
    form: str,
    which: str | None,
    paper: bool,
    notes: bool,
    renames: tuple[str, ...],
    columns: str | None,
    sort: str | None,
    group_by: str | None,
    retention: bool,
    along: bool,
    baseline: str,
    output: Path | None,
    runs_dir: Path,
) -> None:
    """Tables of one or more RUNs (directories or names): scores with intervals and paired tests, targets, cost.

    Without RUN, the newest run is used. Several runs become groups of rows, with a
    warning if they are not comparable.
    """
    from dasd_bench.reporting.rename import display_names, renamed
    from dasd_bench.reporting.render import paper as paper_document
    from dasd_bench.reporting.render import render
    from dasd_bench.reporting.show import print_tables
    from dasd_bench.reporting.table import choose_columns, sort_rows
    from dasd_bench.results.runs import run_inputs
    from dasd_bench.store.destination import check_destination, write_destination

    console = console_of(context)
    if output is not None:
        check_destination(output, run_inputs(_paths(runs, runs_dir)))
    which = "retention" if retention else "along" if along else which
    default = "scores" if paper or form == "csv" else "all"
    tables = _tables(_load(runs, runs_dir), group_by, which, default, baseline)
    if sort:
        tables[0] = sort_rows(tables[0], sort)
    if columns:
        tables[0] = choose_columns(tables[0], [name.strip() for name in columns.split(",") if name.strip()])
    elif paper:
        tables = [_scores_alone(table) for table in tables]
    given = _renames(renames)
    tables = [renamed(table, (display_names(table) if paper or form == "latex" else {}) | given) for table in tables]
    if form == "terminal" and not paper and output is None:
        print_tables(console, tables, notes=notes)
        return
    text = paper_document(tables, notes=notes) if paper else render(tables, form, notes=notes)
    if output is None:
        if form == "csv":
            for warning in (warning for table in tables for warning in table.warnings):
                click.echo(f"Warning: {warning}", err=True)
        click.echo(text, nl=False)
        return
    for warning in (warning for table in tables for warning in table.warnings):
        console.warn(warning)
    write_destination(output, text)
    console.say(f"Wrote {output}.", path=str(output))


def _renames(given: tuple[str, ...]) -> dict[str, str]:
    from dasd_bench.errors import UsageError

    found = dict(text.partition("=")[::2] for text in given)
    if bad := [name for name, shown in found.items() if not name or not shown]:
        raise UsageError(f"--rename takes NAME=TEXT, such as --rename gsm8k=GSM8K, not '{bad[0]}'.")
    return found


def _load(runs: tuple[str, ...], folder: Path) -> list[RunResults]:
    from dasd_bench.results.runs import load_run

    return [load_run(path) for path in _paths(runs, folder)]


def _paths(runs: tuple[str, ...], folder: Path) -> list[Path]:
    from dasd_bench.results.runs import find_run, newest_run

    return list(dict.fromkeys([find_run(name, folder) for name in runs] or [newest_run(folder)]))


def _tables(
    results: list[RunResults], group_by: str | None, which: str | None, default: str, baseline: str
) -> list[Table]:
    from dasd_bench.errors import UsageError
    from dasd_bench.reporting.details import group_table
    from dasd_bench.reporting.show import run_tables

    if group_by:
        if which is not None:
            raise UsageError(f"--group-by {group_by} is a table of its own; omit --table {which}.")
        if group_by == "seed" and baseline != "base":
            raise UsageError("--group-by seed compares no rows; omit --baseline.")
        return [group_table(results, group_by, baseline=baseline)]
    found = run_tables(results, baseline)
    which = which or default
    if which != "all":
        found = [table for table in found if table.key == which]
    if not found:
        raise UsageError(f"These runs have no data for the table '{which}'; use --table scores.")
    return found


def _scores_alone(table: Table) -> Table:
    """The columns of a paper's table: scores, average, difference."""
    from dataclasses import replace

    columns = [replace(c, shown=c.shown and c.block not in ("paired", "nll")) for c in table.columns]
    return replace(table, columns=columns)


@click.command("compare")
@click.argument("first", metavar="A", shell_complete=run_names)
@click.argument("second", metavar="B", shell_complete=run_names)
@click.option("--items", default=10, show_default=True, type=click.IntRange(0), help="Number of changed items to show.")
@click.option(
    "-f", "--format", "form", type=click.Choice(("terminal", "md", "json")), default="terminal", show_default=True
)
@runs_dir_option
@click.pass_context
def compare_command(context: click.Context, first: str, second: str, items: int, form: str, runs_dir: Path) -> None:
    """Compare A with B item by item, each a RUN, or RUN:ROW for one row of it (RUN:sft, RUN:base).

    Prints wins and losses by task with paired tests, warns if the two are not comparable and says why, and shows the
    items that changed most with both completions.
    """
    from dasd_bench.reporting.compare import compare_sides, pick_sides
    from dasd_bench.reporting.render.machine import comparison_text
    from dasd_bench.reporting.render.markup import markdown_comparison
    from dasd_bench.reporting.show import print_comparison

    console = console_of(context)
    found = [compare_sides(a, b, items) for a, b in pick_sides(first, second, runs_dir)]
    if form == "json":
        click.echo(comparison_text(found), nl=False)
        return
    for comparison in found:
        if form == "md":
            click.echo(markdown_comparison(comparison))
        else:
            print_comparison(console, comparison)


def show_run(path: Path, console: Console) -> None:
    """Prints one run directory: its manifest, then its tables."""
    from dasd_bench.reporting.show import show_run as show

    show(console, path)


def list_runs(folder: Path, console: Console) -> None:
    """Prints the runs under ``folder``."""
    from dasd_bench.reporting.show import print_runs

    print_runs(console, folder)
