"""``dasd-bench ablate``: one method's rules and thresholds side by side, measured on the targets they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dasd_bench.cli.shared import console_options, output_option
from dasd_bench.cli.spec_options import given_run_options, given_spec, run_options, spec_options
from dasd_bench.config.resolve import build_spec
from dasd_bench.console import Console
from dasd_bench.errors import UsageError


@click.command()
@click.option(
    "--grid",
    multiple=True,
    metavar="NAME=V,V;...",
    help="Options and their values, all combinations: rule=margin;mu=0.1,0.3 (repeatable: each adds its own points).  "
    "[default: the method's own grids]",
)
@click.option("--train", is_flag=True, help="Also train every point on the other rows and score it on these.")
@spec_options
@output_option("Folder", "ablations/<name of the ablation>")
@run_options
@console_options
def ablate(
    grid: tuple[str, ...],
    train: bool,
    preset: str | None,
    config: Path | None,
    output: Path | None,
    console: Console,
    **values: Any,
) -> int:
    """Measure the options of one gated method: tokens replaced and answers correct, broken and fixed at every point of
    a grid, on rows of the train split held out for validation (--validation, default 128 per task).

    All rules are decoded in one pass that computes their common tokens once. Without --train no model is trained.
    Other options are as for `run`.

    \b
    dasd-bench ablate --method dasd --tasks mini_gsm
    dasd-bench ablate --method dasd --grid "rule=margin;mu=0.1,0.3" --grid "rule=insist;rho=0.3,0.5"
    """
    from dasd_bench.reporting.ablation import ablation_tables
    from dasd_bench.reporting.plots import Nothing, save
    from dasd_bench.reporting.plots.ablation import ablation_plot, threshold_plots
    from dasd_bench.reporting.render import render
    from dasd_bench.reporting.show import print_tables
    from dasd_bench.results.ablation import FILE
    from dasd_bench.results.directory import TABLES_FILE
    from dasd_bench.run.ablate import grids_of, parse_grids, planned_folder, run_ablation
    from dasd_bench.run.session import RunInterrupted
    from dasd_bench.store.atomic import write_text

    if values["launcher"] != "local":
        raise UsageError("ablate runs on this machine: omit --launcher, or submit the command as one job.")
    given, settings = given_spec(values)
    spec, registry = build_spec(preset, config, settings, given, console)
    points = parse_grids(grid or grids_of(spec, registry))
    folder = output or planned_folder(spec, points, registry)
    try:
        found = run_ablation(spec, points, registry, given_run_options(values, folder), console, train=train)
    except RunInterrupted:
        console.result(f"Interrupted. Run the same command again to resume ({folder}).")
        return 130
    tables = ablation_tables(found)
    print_tables(console, tables)
    write_text(folder / TABLES_FILE, render(tables, "md"))
    for plot in (ablation_plot(found), *threshold_plots(found)):
        if not isinstance(plot, Nothing):
            save(plot, folder)
    console.result(f"{FILE}, {TABLES_FILE} and figures are in {folder}", folder=str(folder))
    return 3 if any(point.failed for point in found.points) else 0
