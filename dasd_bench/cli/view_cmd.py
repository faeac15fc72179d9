"""``dasd-bench view``: runs in a browser, served to this machine alone."""

from __future__ import annotations

from pathlib import Path

import click

from dasd_bench.cli.complete import run_names
from dasd_bench.cli.shared import console_of, online_methods, open_option, runs_dir_option

SWEEPS = Path("sweeps")


@click.command("view")
@click.argument("runs", shell_complete=run_names, nargs=-1, metavar="[RUN]...")
@open_option
@click.option(
    "--port",
    default=0,
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Port on 127.0.0.1; default: a free one. Choose one for an SSH tunnel.",
)
@runs_dir_option
@click.pass_context
def view_command(context: click.Context, runs: tuple[str, ...], show: bool, port: int, runs_dir: Path) -> int:
    """List runs in the browser with their progress, and open their tables, reports, answers and comparisons.

    Each RUN is a run, a sweep, or a folder of them; by default ./runs (--runs-dir) and ./sweeps. The page is served on
    127.0.0.1 to whoever has the printed address, and nothing is written. Ctrl-C stops it. On another machine, use
    --port 8765 there and 'ssh -L 8765:127.0.0.1:8765 HOST' here.
    """
    from dasd_bench.reporting.view.catalog import Catalog
    from dasd_bench.reporting.view.pages import Pages
    from dasd_bench.reporting.view.server import ViewServer

    console = console_of(context)
    catalog = Catalog([_root(name, runs_dir) for name in runs] or [runs_dir, SWEEPS])
    with ViewServer(Pages(catalog, online_methods), port) as server:
        count = len(catalog.runs())
        console.result(
            f"{count} run{'' if count == 1 else 's'} at {server.address}\nCtrl-C stops the viewer.",
            address=server.address,
            runs=count,
        )
        if show:
            click.launch(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.say("Stopped.")
    return 0


def _root(name: str, runs_dir: Path) -> Path:
    """A run by path or name, or a folder of runs."""
    from dasd_bench.results.runs import find_run, is_run

    folder = Path(name)
    return folder if folder.is_dir() and not is_run(runs_dir / name) else find_run(name, runs_dir)
