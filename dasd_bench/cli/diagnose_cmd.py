"""``dasd-bench diagnose``: what each method trained on, what its selection did, and what moved in the model."""

from __future__ import annotations

from pathlib import Path

import click

from dasd_bench.cli.complete import run_names
from dasd_bench.cli.shared import format_option, output_file_option, runs_dir_option
from dasd_bench.console import Console


@click.command("diagnose")
@click.argument("runs", shell_complete=run_names, nargs=-1, metavar="[RUN]...")
@format_option
@click.option("--table", "which", help="Only this table: targets, classes, outcomes, histogram, nll or retention.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@output_file_option
@runs_dir_option
def diagnose_command(
    runs: tuple[str, ...], form: str, which: str | None, as_json: bool, output: Path | None, runs_dir: Path
) -> None:
    """Diagnostics of RUNs: targets (perplexity, HPR, agreement with gold, AUC of the selector's score), selection by
    kind of token, acceptance, histogram, teacher-forced NLL with paired intervals, and retention if it was evaluated.

    Without RUN, the newest run is used. Reads run directories and loads no model.
    """
    from dasd_bench.errors import unknown_name
    from dasd_bench.reporting.diagnostics import diagnostic_tables
    from dasd_bench.reporting.render import render
    from dasd_bench.reporting.show import print_tables
    from dasd_bench.results.runs import find_run, load_run, newest_run, run_inputs
    from dasd_bench.store.destination import check_destination, write_destination

    console = Console()
    paths = [find_run(name, runs_dir) for name in runs] or [newest_run(runs_dir)]
    if output is not None:
        check_destination(output, run_inputs(paths))
    tables = diagnostic_tables([load_run(path) for path in dict.fromkeys(paths)])
    if which is not None:
        if which not in {table.key for table in tables}:
            raise unknown_name("diagnostic table of these runs", which, [table.key for table in tables])
        tables = [table for table in tables if table.key == which]
    form = "json" if as_json else form
    if output is not None:
        write_destination(output, render(tables, form))
        console.say(f"Wrote {output}.", path=str(output))
    elif form == "terminal":
        print_tables(console, tables)
    else:
        click.echo(render(tables, form), nl=False)
