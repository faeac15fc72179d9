"""``dasd-bench plot``: figures of runs, ablations and probes as PDF, SVG and PNG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dasd_bench.cli.complete import run_names
from dasd_bench.cli.shared import console_of, runs_dir_option
from dasd_bench.errors import DasdError, UsageError

if TYPE_CHECKING:
    from dasd_bench.reporting.plots import Nothing, Plot

RUN_KINDS = ("scores", "difficulty", "ppl", "notes", "forgetting", "training", "along", "cost")
ABLATION_KINDS = ("ablation", "threshold")
PROBE_KINDS = ("rates", "roc")


@click.command("plot")
@click.argument("runs", shell_complete=run_names, nargs=-1, metavar="[RUN]...")
@click.option(
    "-k",
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice((*RUN_KINDS, *ABLATION_KINDS, *PROBE_KINDS, "all")),
    default=("all",),
    show_default=True,
    metavar="KIND",
    help="What to draw (repeatable).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder  [default: plots/ of the first RUN]",
)
@runs_dir_option
@click.pass_context
def plot_command(
    context: click.Context, runs: tuple[str, ...], kinds: tuple[str, ...], output: Path | None, runs_dir: Path
) -> None:
    """Figures of one or more RUNs, or of one ablation or probe, each as PDF, SVG and PNG.

    They can be read by colour-blind people and in black and white. A results.json, ablation.json or probe.json is
    enough (training also reads the training curves, roc and rates labels.jsonl). KINDs of a run:

    \b
    scores      score by method and task with intervals
    difficulty  accuracy by difficulty level (or subject) with intervals
    ppl         perplexity of the training targets' tokens by method
    notes       what methods count against an option, such as replaced tokens against tau
    forgetting  accuracy on trained tasks against the change on other tasks
    training    training curves: weighted loss, unweighted NLL, share of tokens with weight
    along       scores at fractions of training (training.evaluate_at)
    cost        seconds for one seed against accuracy

    Of an ablation's folder:

    \b
    ablation    correct answers against replaced tokens, by rule
    threshold   both against each threshold, such as tau

    Of a probe's folder:

    \b
    rates       tokens replaced by label and kind
    roc         how well each score tells corrections from the rest
    """
    from dasd_bench.reporting.plots import Nothing, save

    console = console_of(context)
    wanted = list(dict.fromkeys(kinds))
    single = _other_kinds(runs)
    if single is not None:
        folder, known, draw_all = Path(runs[0]), single[0], single[1]
        _check_kinds(wanted, known, folder)
        drawn = [one for one in draw_all(folder) if "all" in wanted or one.kind.partition("-")[0] in wanted]
    else:
        _check_kinds(wanted, RUN_KINDS, None)
        folder, drawn = _of_runs(runs, wanted, runs_dir)
    folder = output or folder
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


def _of_runs(runs: Sequence[str], wanted: list[str], runs_dir: Path) -> tuple[Path, list[Plot | Nothing]]:
    """The default folder, and the figures of runs."""
    from dasd_bench.reporting.plots import Source, draw
    from dasd_bench.results.runs import find_run, load_run, newest_run

    paths = [find_run(name, runs_dir) for name in runs] or [newest_run(runs_dir)]
    sources = [Source(path, load_run(path)) for path in dict.fromkeys(paths)]
    return sources[0].directory.plots, draw(sources, list(RUN_KINDS) if "all" in wanted else wanted)


def _of_ablation(folder: Path) -> list[Plot | Nothing]:
    from dasd_bench.reporting.plots.ablation import ablation_plot, threshold_plots
    from dasd_bench.results.ablation import Ablation

    found = Ablation.load(folder)
    return [ablation_plot(found), *threshold_plots(found)]


def _of_probe(folder: Path) -> list[Plot | Nothing]:
    from dasd_bench.reporting.plots.style import look
    from dasd_bench.reporting.probe import probe_figures
    from dasd_bench.results.probe import load_probe

    _, tokens = load_probe(folder)
    with look():
        return probe_figures(tokens)


def _other_kinds(runs: Sequence[str]) -> tuple[tuple[str, ...], Callable[[Path], list[Plot | Nothing]]] | None:
    """The kinds of figures of an ablation's or a probe's folder, and what draws them; None for runs."""
    from dasd_bench.results.ablation import FILE
    from dasd_bench.results.probe import RESULTS_FILE

    for file, kinds, draw in ((FILE, ABLATION_KINDS, _of_ablation), (RESULTS_FILE, PROBE_KINDS, _of_probe)):
        marked = [name for name in runs if (Path(name) / file).is_file()]
        if marked and len(runs) > 1:
            raise UsageError(f"{marked[0]} holds {file}; name it alone.")
        if marked:
            return kinds, draw
    return None


def _check_kinds(wanted: list[str], known: tuple[str, ...], folder: Path | None) -> None:
    """Refuses kinds that another sort of folder has."""
    if wrong := [kind for kind in wanted if kind not in (*known, "all")]:
        what = f"{folder}" if folder else "a run"
        raise UsageError(f"--kind {wrong[0]}: {what} has {', '.join(known)}.")
