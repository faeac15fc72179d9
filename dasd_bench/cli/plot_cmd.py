"""``dasd-bench plot``: pictures of runs as PDF, SVG and PNG."""

from __future__ import annotations

from pathlib import Path

import click

from dasd_bench.cli.complete import run_names
from dasd_bench.cli.shared import console_of, runs_dir_option
from dasd_bench.errors import DasdError

KINDS = ("scores", "difficulty", "ppl", "notes", "pareto", "training", "along", "cost", "all")


@click.command("plot")
@click.argument("runs", shell_complete=run_names, nargs=-1, metavar="[RUN]...")
@click.option(
    "-k",
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(KINDS),
    default=("all",),
    show_default=True,
    help="What to draw (repeatable).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder [default: plots/ of the first RUN].",
)
@runs_dir_option
@click.pass_context
def plot_command(
    context: click.Context, runs: tuple[str, ...], kinds: tuple[str, ...], output: Path | None, runs_dir: Path
) -> None:
    """Plots of one or more RUNs, each as PDF, SVG and PNG: readable for colour-blind people and in black and white.

    \b
    scores      score by method and task with intervals
    difficulty  accuracy by difficulty level (or subject) with intervals
    ppl         perplexity of the training targets' tokens by method
    notes       what methods count against an option, such as replaced tokens against tau
    pareto      accuracy against forgetting, where the run has retention tasks
    training    training curves: weighted loss, unweighted NLL, share of tokens learned from
    along       scores at fractions of training (training.evaluate_at)
    cost        seconds for one seed against accuracy
    """
    from dasd_bench.reporting.plots import Nothing, Source, draw, save
    from dasd_bench.results.runs import find_run, load_run, newest_run

    console = console_of(context)
    paths = [find_run(name, runs_dir) for name in runs] or [newest_run(runs_dir)]
    sources = [Source(path, load_run(path)) for path in dict.fromkeys(paths)]
    wanted = list(KINDS[:-1]) if "all" in kinds else list(dict.fromkeys(kinds))
    folder = output or sources[0].directory.plots
    drawn = draw(sources, wanted)
    for one in drawn:
        if isinstance(one, Nothing):
            console.warn(f"No plot '{one.kind}': {one.why}")
            continue
        written = save(one, folder)
        names = ", ".join(path.name for path in written)
        console.result(f"{one.title}: {names}", plot=one.kind, files=[str(path) for path in written])
        console.say(f"  {one.caption}")
    if all(isinstance(one, Nothing) for one in drawn):
        raise DasdError("No figure could be drawn from these runs.")
    console.result(f"Written to {folder}", folder=str(folder))
