"""``dasd-bench run``: from a model and methods to a table."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dasd_bench.cli.shared import console_options, dry_run_option, output_option, run_and_print
from dasd_bench.cli.spec_options import (
    given_run_options,
    given_spec,
    name_adapter,
    run_folder,
    run_options,
    spec_options,
)
from dasd_bench.config.resolve import build_spec
from dasd_bench.config.spec import RunSpec
from dasd_bench.console import Console
from dasd_bench.errors import PluginError, UsageError
from dasd_bench.registry import Registry
from dasd_bench.run.options import RunOptions

if TYPE_CHECKING:
    from dasd_bench.run.prepare import PreparedRun


@click.command()
@spec_options
@output_option("Run directory", "runs/<name of the run>")
@click.option("--name", help="Name of the run: its directory is then runs/NAME.")
@run_options
@dry_run_option
@click.option(
    "--assume-gpu",
    metavar="NAME",
    default="",
    help="With --dry-run: plan for a GPU that is not here: a10, l4, rtx-4090, l40s, a100-40gb, a100-80gb, h100, h200.",
)
@console_options
def run(
    preset: str | None,
    config: Path | None,
    output: Path | None,
    name: str | None,
    dry_run: bool,
    assume_gpu: str,
    console: Console,
    **values: Any,
) -> int:
    """Make targets, train one adapter per method and seed, evaluate, and print the table."""
    given, settings = given_spec(values)
    options = replace(given_run_options(values, run_folder(output, name)), assumed_gpu=assume_gpu)
    if assume_gpu and not dry_run:
        raise UsageError("--assume-gpu only changes what --dry-run prints; add --dry-run.")
    if name is not None:
        name_adapter(given, name)
    spec, registry = build_spec(preset, config, settings, given, console)
    for broken in registry.broken:
        console.warn(f"Plugin {broken.origin} could not be loaded: {broken.error}")
    console.say(f"{spec.model}: {', '.join(spec.rows)} on {', '.join(spec.tasks)}")
    if dry_run:
        return print_plan(spec, registry, options, console)
    return run_and_print(spec, registry, options, console)


def print_plan(spec: RunSpec, registry: Registry, options: RunOptions, console: Console) -> int:
    """Prints what a run would do."""
    from dasd_bench.run.cluster.fill import check_launcher
    from dasd_bench.run.outline import outline
    from dasd_bench.run.plan import plan_lines, scale_line
    from dasd_bench.run.prepare import load, plan_unfetched, prepare

    if options.on_cluster:
        check_launcher(options)
    # Names and rows are checked even where the model is not here.
    data = load(spec, registry, console)
    unfetched = plan_unfetched(spec)
    if unfetched:
        planner = outline(spec, registry, data, options, console)
        rows, notes = (planner.rows, planner.notes()) if planner else ([], [])
        console.result(unfetched, model_missing=True)
        if planner is None:
            console.result("Nothing is known of this model's shape before it is downloaded, so there is no plan.")
    else:
        prepared = prepare(spec, registry, options, console, data)
        context, rows, notes = prepared.context, prepared.plan, prepared.notes
        where = f"{context.dtype} on {context.device}"
        console.result(f"Plan of the run {context.run_dir.name} with {spec.model} ({where})")
    if rows:
        console.result(scale_line(data, rows))
        plan = [asdict(row) for row in rows]
        console.result("\n".join(plan_lines(rows)), plan=plan, model_missing=bool(unfetched))
    for note in notes:
        console.result(note)
    if not unfetched:
        for one in prepared.graph.matchings:
            try:
                console.result(one.line())
            except PluginError as error:
                console.warn(str(error))
    print_launch(None if unfetched else prepared, options, console)
    return 0


def print_launch(prepared: PreparedRun | None, options: RunOptions, console: Console) -> None:
    """Prints what the launcher would submit; ``prepared`` is None where the model is not on this machine."""
    if options.launcher == "slurm":
        if prepared is None:
            console.result("The Slurm scripts name the unfinished stages, so they are printed once the model is here.")
            return
        from dasd_bench.run.cluster.slurm import scripts
        from dasd_bench.run.cluster.units import unfinished_units

        run_dir = prepared.context.run_dir
        for script in scripts(unfinished_units(prepared.graph, options.split), options.slurm, run_dir):
            console.result(script, script=script)
    elif options.launcher == "skypilot":
        from dasd_bench.run.cluster.skypilot import task_yaml

        task = task_yaml(arguments_for_nodes(sys.argv[1:]), options.sky)
        console.result(task, task=task)


def arguments_for_nodes(arguments: list[str]) -> list[str]:
    """The words of this command without those that say where it runs."""
    found, words = [], iter(arguments)
    for word in words:
        name, equals, _ = word.partition("=")
        if name in ("--launcher", "--skypilot", "--store", "--output", "-o"):
            if not equals:
                next(words, None)
        elif word != "--dry-run":
            found.append(word)
    return found
