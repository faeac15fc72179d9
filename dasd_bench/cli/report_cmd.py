"""``dasd-bench report``: one HTML page of runs."""

from __future__ import annotations

from pathlib import Path

import click

from dasd_bench.cli.complete import run_names
from dasd_bench.cli.shared import baseline_option, console_of, online_methods, open_option, runs_dir_option


@click.command("report")
@click.argument("runs", shell_complete=run_names, nargs=-1, metavar="[RUN]...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Output file [default: report.html in the first RUN].",
)
@open_option
@baseline_option
@runs_dir_option
@click.pass_context
def report_command(
    context: click.Context, runs: tuple[str, ...], output: Path | None, show: bool, baseline: str, runs_dir: Path
) -> None:
    """One self-contained HTML file of one or more RUNs: tables, figures, token viewer, test answers, manifest.

    The page needs no server: it can be mailed, archived with a paper, or opened years later. Without RUN, the newest
    run is used.
    """
    from dasd_bench.reporting.plots import Source
    from dasd_bench.reporting.report import report_page
    from dasd_bench.results.runs import find_run, load_run, newest_run, run_inputs
    from dasd_bench.store.destination import check_destination, write_destination

    console = console_of(context)
    paths = [find_run(name, runs_dir) for name in runs] or [newest_run(runs_dir)]
    if output is not None:
        check_destination(output, run_inputs(paths))
    sources = [Source(path, load_run(path)) for path in dict.fromkeys(paths)]
    target = output or sources[0].path / "report.html"
    text = report_page(sources, baseline, online_methods(sources))
    write_destination(target, text)
    console.result(f"Wrote {target} ({len(text.encode()) / 1e6:.1f} MB).", path=str(target))
    if show:
        click.launch(target.resolve().as_uri())
