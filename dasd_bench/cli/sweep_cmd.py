"""``dasd-bench sweep``: tune every arm on the same grid, on rows held back from the train split."""

from __future__ import annotations

import shlex
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dasd_bench.cli.shared import console_options, output_option, run_and_print, show_table
from dasd_bench.cli.spec_options import given_run_options, given_spec, run_options, spec_options
from dasd_bench.config.resolve import build_spec
from dasd_bench.config.spec import SECTIONS, RunSpec
from dasd_bench.console import Console, format_seconds
from dasd_bench.registry import Registry
from dasd_bench.results.directory import SWEEP_FILE

if TYPE_CHECKING:
    from dasd_bench.run.options import RunOptions
    from dasd_bench.run.sweep import Cell, Point, Surface


@click.command()
@click.option(
    "--grid",
    multiple=True,
    help='NAME=VALUE,VALUE (repeatable): training.lr=5e-5,2e-4, training.lora_targets=all-linear,"q_proj,v_proj", ...',
)
@click.option(
    "--select",
    type=click.Choice(("validation",)),
    default="validation",
    show_default=True,
    help="Rows to choose the settings on: held-out rows of the train split, never the test split.",
)
@click.option("--final", is_flag=True, help="Then evaluate the best settings of every arm on the test split.")
@spec_options
@output_option("Sweep folder", "sweeps/<name of the sweep>")
@run_options
@click.option("--dry-run", is_flag=True, help="Print the plan of every point; load no weights.")
@console_options
def sweep(
    grid: tuple[str, ...],
    select: str,
    final: bool,
    preset: str | None,
    config: Path | None,
    output: Path | None,
    dry_run: bool,
    console: Console,
    **values: Any,
) -> int:
    """Tune every arm on the same grid: each point trains all arms and scores them on validation rows.

    Other options are as for `run`. Points share one store, so targets and scores are computed once. The same command
    resumes an interrupted sweep.
    """
    from dasd_bench.run.session import RunInterrupted
    from dasd_bench.run.sweep import parse_grid, run_sweep, sweep_folder, winners

    given, settings = given_spec(values)
    spec, registry = build_spec(preset, config, settings, given, console)
    points = parse_grid(grid)
    options = given_run_options(values, output or sweep_folder(spec, points))
    folder = options.output or Path()
    if dry_run:
        return _print_plan(spec, points, registry, options, console)
    try:
        surface = run_sweep(spec, points, registry, options, console)
    except RunInterrupted as interrupted:
        console.result(str(interrupted))
        return 130
    _tell(surface, spec, registry, console, folder)
    if final:
        best = winners(spec, registry, surface)
        return run_and_print(best, registry, replace(options, output=folder / "final"), console)
    return 3 if any(cell.failed for cells in surface.cells.values() for cell in cells) else 0


def _print_plan(spec: RunSpec, points: list[Point], registry: Registry, options: RunOptions, console: Console) -> int:
    """Prints what each point would compute, and the scale of all."""
    from dasd_bench.run.plan import scale_line
    from dasd_bench.run.sweep import plan_sweep

    data, plans = plan_sweep(spec, points, registry, options, console)
    console.result(f"Plan of the sweep {(options.output or Path()).name} with {spec.model}: {len(points)} points")
    lines = []
    for point, rows in zip(points, plans, strict=True):
        counts = {state: sum(row.state == state for row in rows) for state in ("to do", "shared", "in store")}
        seconds = sum(row.seconds for row in rows if row.state == "to do")
        peak = max((row.memory_gib for row in rows), default=0.0)
        lines.append((point.name, *map(str, counts.values()), format_seconds(seconds), f"{peak:.1f} GiB"))
        console.event("point", point=point.name, plan=[asdict(row) for row in rows])
    show_table(console, ("point", "to do", "shared", "in store", "time", "peak memory"), lines)
    console.result(scale_line(data, [row for rows in plans for row in rows]))
    console.result("Shared stages are made once, by an earlier point. For one point's stages: dasd-bench run --dry-run")
    return 0


def _tell(surface: Surface, spec: RunSpec, registry: Registry, console: Console, folder: Path) -> None:
    """The surface as a table, the best point per arm, and the command that runs them on the test split."""
    from dasd_bench.run.sweep import save_surface, winners

    best = {arm: surface.best(arm) for arm in surface.arms}
    mean = 100 * sum(surface.base.values()) / len(surface.base)
    rows = [("base", *(f"{mean:.1f}" for _ in surface.arms))]
    for i, point in enumerate(surface.points):
        rows.append((point.name, *(_cell_text(surface.cells[arm][i], best[arm] == i) for arm in surface.arms)))
    where = ", ".join(f"{name} {count}" for name, count in surface.rows.items())
    console.result(
        f"Validation score in percent and (reference NLL), {where} rows of the train split, "
        f"{len(spec.seeds)} seed(s); * = best of its column."
    )
    show_table(console, ("point", *surface.arms), rows)
    for arm in surface.arms:
        index = best[arm]
        if index is None:
            console.result(f"{arm}: failed at every point.")
            continue
        report = f"{arm}: best {surface.points[index].name}"
        alike = surface.indistinct(arm)
        if alike:
            report += f"; {alike} other point(s) are not significantly different on these rows (paired test, p >= .05)"
        edge = surface.at_edge(arm)
        if edge:
            report += f"; it is at the edge of the grid in {', '.join(edge)}, so try further values"
        console.result(report + ".")
    command = shlex.join(run_command(winners(spec, registry, surface)))
    save_surface(folder / SWEEP_FILE, spec, surface, "finished", command)
    console.result(f"On the test split: {command}")
    console.result(f"All cells are in {folder / SWEEP_FILE}.", surface=str(folder / SWEEP_FILE))


def _cell_text(cell: Cell, best: bool) -> str:
    return "failed" if cell.failed else f"{100 * cell.score:.1f} ({cell.nll:.3f}){' *' if best else ''}"


def run_command(spec: RunSpec) -> list[str]:
    """The words of the command that runs a specification, options at their defaults left out."""
    words = ["dasd-bench", "run"]
    standard = RunSpec()
    for f in fields(RunSpec):
        value = getattr(spec, f.name)
        if f.name == "training_given" or (value == getattr(standard, f.name) and f.name != "training"):
            continue
        if f.name in SECTIONS:
            usual = asdict(getattr(standard, f.name))
            given = spec.training_given if f.name == "training" else ()
            changed = {k: v for k, v in asdict(value).items() if v != usual[k] or k in given}
            words += [word for k, v in changed.items() for word in ("--set", f"{f.name}.{k}={v}")]
        elif f.name == "method_options":
            words += [w for name, own in value.items() for k, v in own.items() for w in ("--set", f"{name}.{k}={v}")]
        elif value is True:
            words.append(f"--{f.name.replace('_', '-')}")
        elif f.name == "plugins":
            words += [word for folder in value for word in ("--plugins", folder)]
        else:
            words += [f"--{f.name.replace('_', '-')}", _listed(value)]
    return words


def _listed(value: Any) -> str:
    """A value as the command line takes it; parts with commas in quotes."""
    if not isinstance(value, tuple):
        return str(value)
    return ",".join(f'"{part}"' if "," in str(part) else str(part) for part in value)
