"""``dasd-bench sweep``: tune every arm on the same grid, on rows held back from the train split."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dasd_bench.cli.models_cmd import show_table
from dasd_bench.cli.run_cmd import build_spec, check_run_dir, run, run_name, run_spec
from dasd_bench.config.spec import RunSpec, arms
from dasd_bench.console import Console
from dasd_bench.errors import DasdError, UsageError
from dasd_bench.registry import Registry

if TYPE_CHECKING:
    from dasd_bench.run.sweep import Cell, Surface

OWN = ("output", "dry_run", "track")
"""Options of ``run`` that a sweep does not share."""


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
    help="Where settings are chosen: held-back rows of the train split, never the test split.",
)
@click.option("--final", is_flag=True, help="Then run the best settings of every arm on the test split.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Sweep folder [default: sweeps/<name of the sweep>]."
)
def sweep(
    grid: tuple[str, ...],
    select: str,
    final: bool,
    output: Path | None,
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    accept_licence: tuple[str, ...],
    store: Path | None,
    processes: int,
    parallel: str,
    json_events: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Tune every arm on the same grid: each point trains all arms and scores them on validation rows.

    Methods, tasks and all else are given as to run. Points share one store, so targets and scores are made once, and
    an interrupted sweep goes on with the same command.
    """
    from dasd_bench.run.sweep import Surface, check_axes, parse_grid, point_spec

    started = time.monotonic()
    console = Console(json_events=json_events, quiet=quiet)
    values = {key: value for key, value in options.items() if value not in (None, ())}
    spec, registry = build_spec(config, preset, settings, values, console)
    points = parse_grid(grid)
    # Every point is checked before the first one is trained.
    specs = [point_spec(spec, point) for point in points]
    check_axes(specs[0], points[0])
    labels = [[arm.label for arm in arms(one, registry)] for one in specs].pop()
    if not labels:
        raise UsageError("A sweep tunes methods, and 'base' is none; name one with --method.")
    folder = output or Path("sweeps") / run_name(replace(spec, methods=(*spec.methods, *grid)))
    launch = _Launch(folder, store, accept_licence, processes, parallel)
    surface = Surface(points, labels)
    code = _measure(surface, specs, registry, console, launch)
    if code == 130:
        return code
    if all(cell.failed for cells in surface.cells.values() for cell in cells):
        raise DasdError("No arm finished at any point of the grid; look at the warnings above.")
    _tell(surface, spec, registry, console, folder)
    if final:
        return _run_final(surface, spec, registry, console, launch, started)
    return 3 if any(cell.failed for cells in surface.cells.values() for cell in cells) else 0


@dataclass(frozen=True, slots=True)
class _Launch:
    """How and where a sweep runs: no part of what it finds."""

    folder: Path
    store: Path | None
    accept_licences: tuple[str, ...]
    processes: int
    parallel: str


def _measure(surface: Surface, specs: list[RunSpec], registry: Registry, console: Console, launch: _Launch) -> int:
    """Runs every point and adds it to the surface; 130 where interrupted. A point that fails ends no sweep."""
    from dasd_bench.run.build import build_context, check_training
    from dasd_bench.run.runner import execute
    from dasd_bench.run.sweep import add_failure, add_run, save_surface
    from dasd_bench.run.validation import load_validation
    from dasd_bench.store.locks import FileLock

    data = load_validation(specs[0], registry, console)
    shared = console.branch()
    for number, (point, spec) in enumerate(zip(surface.points, specs, strict=True), 1):
        run_dir = launch.folder / "points" / point.name
        check_run_dir(run_dir, spec)
        console.say(f"[sweep] point {number} of {len(specs)}: {point.name}")
        context = build_context(
            spec,
            registry,
            shared.branch(),
            run_dir,
            launch.store,
            launch.accept_licences,
            launch.processes,
            launch.parallel,
        )
        with FileLock(run_dir / ".lock", on_wait=console.say):
            try:
                check_training(context)
                add_run(surface, execute(context, data), spec.seeds)
            except DasdError as error:
                console.warn(f"point {point.name} failed: {error}")
                add_failure(surface)
            except KeyboardInterrupt:
                console.say(f"Interrupted. Run the same command again to go on ({launch.folder}).")
                return 130
        save_surface(launch.folder / "sweep.json", spec, surface, "partial")
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
        f"Validation score in percent and (nll of the references), {where} rows of the train split, "
        f"{len(spec.seeds)} seed(s); * = best of its column."
    )
    show_table(console, ("point", *surface.arms), rows)
    for arm in surface.arms:
        index = best[arm]
        if index is None:
            console.result(f"{arm}: failed at every point.")
            continue
        told = f"{arm}: best {surface.points[index].name}"
        alike = surface.indistinct(arm)
        if alike:
            told += f"; {alike} other point(s) cannot be told from it on these rows (paired test, p >= .05)"
        edge = surface.at_edge(arm)
        if edge:
            told += f"; it lies at the edge of the grid in {', '.join(edge)}, so try further values"
        console.result(told + ".")
    command = shlex.join(run_command(winners(spec, registry, surface)))
    save_surface(folder / "sweep.json", spec, surface, "finished", command)
    console.result(f"On the test split: {command}")
    console.result(f"The whole surface lies in {folder / 'sweep.json'}.", surface=str(folder / "sweep.json"))


def _cell_text(cell: Cell, best: bool) -> str:
    return "failed" if cell.failed else f"{100 * cell.score:.1f} ({cell.nll:.3f}){' *' if best else ''}"


def _run_final(
    surface: Surface, spec: RunSpec, registry: Registry, console: Console, launch: _Launch, started: float
) -> int:
    """The winners on the test split."""
    from dasd_bench.run.sweep import winners

    return run_spec(
        winners(spec, registry, surface),
        registry,
        console,
        output=launch.folder / "final",
        store=launch.store,
        dry_run=False,
        accept_licences=launch.accept_licences,
        processes=launch.processes,
        parallel=launch.parallel,
        started=started,
    )


def run_command(spec: RunSpec) -> list[str]:
    """The words of the command that runs a specification, options at their defaults left out."""
    words = ["dasd-bench", "run"]
    standard = RunSpec()
    for f in fields(RunSpec):
        value = getattr(spec, f.name)
        if f.name == "training_given" or (value == getattr(standard, f.name) and f.name != "training"):
            continue
        if f.name in ("training", "engine"):
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


sweep.params += [param for param in run.params if param.name not in OWN]
