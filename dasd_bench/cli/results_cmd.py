"""``dasd-bench check-results`` and ``leaderboard``: the results that people add to ``results/``."""

from __future__ import annotations

from pathlib import Path

import click

from dasd_bench.cli.complete import folder_paths
from dasd_bench.cli.shared import console_of, open_option

folder_argument = click.argument(
    "folder", type=click.Path(path_type=Path, file_okay=False), default=Path("results"), shell_complete=folder_paths
)


@click.command("check-results")
@folder_argument
@click.option("--update-tables", is_flag=True, help="Write the tables.md of every entry with results.json anew first.")
@click.option("-q", "--quiet", is_flag=True, help="Print only what is wrong.")
@click.pass_context
def check_results_command(context: click.Context, folder: Path, update_tables: bool, quiet: bool) -> int:
    """Check every entry of FOLDER (default: results) before it is added.

    Reads results.json, the hashes, command and versions of the manifest, and spec.yaml, compares tables.md with what
    results.json gives, and says which entries are comparable. Exit code 1 where an entry has a problem.
    """
    from dasd_bench.reporting.leaderboard.check import check_results, entry_tables
    from dasd_bench.results.directory import TABLES_FILE
    from dasd_bench.store.atomic import write_text

    console = console_of(context)
    found = check_results(folder)
    if update_tables:
        for one in found:
            if one.results is not None:
                write_text(one.entry.path / TABLES_FILE, entry_tables(one.results))
        found = check_results(folder)
    for one in found:
        if quiet and one.ok:
            continue
        count = len(one.problems)
        state = "ok" if one.ok else f"{count} problem{'s' if count > 1 else ''}"
        console.result(
            f"{one.entry.name} ({one.entry.kind}): {state}",
            entry=one.entry.name,
            problems=one.problems,
            notes=one.notes,
        )
        for text in one.problems:
            console.result(f"  Problem: {text}")
        for text in [] if quiet else one.notes:
            console.result(f"  {text}")
    bad = sum(not one.ok for one in found)
    checked = f"{len(found)} entr{'y' if len(found) == 1 else 'ies'} checked"
    console.result(f"{checked}, {bad} with problems." if bad else f"{checked}, no problems.")
    return 1 if bad else 0


@click.command("leaderboard")
@folder_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("leaderboard.html"),
    show_default=True,
    help="Output file.",
)
@open_option
@click.pass_context
def leaderboard_command(context: click.Context, folder: Path, output: Path, show: bool) -> int:
    """One self-contained HTML page of all entries of FOLDER (default: results), to sort and filter.

    Entries that are not comparable stand apart with the reason; entries with problems are named and not ranked.
    """
    from dasd_bench.reporting.leaderboard.check import check_results
    from dasd_bench.reporting.leaderboard.page import leaderboard_page
    from dasd_bench.results.runs import run_inputs
    from dasd_bench.store.destination import check_destination, write_destination

    console = console_of(context)
    found = check_results(folder)
    check_destination(output, run_inputs(one.entry.path for one in found))
    write_destination(output, leaderboard_page(found))
    bad = [one.entry.name for one in found if not one.ok]
    if bad:
        console.warn(f"Not ranked, see 'dasd-bench check-results {folder}': {', '.join(bad)}.")
    console.result(f"Wrote {output} ({len(found)} entr{'y' if len(found) == 1 else 'ies'}).", path=str(output))
    if show:
        click.launch(output.resolve().as_uri())
    return 0
