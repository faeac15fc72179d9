"""Fills the store with the results of a run by a cluster, so that the runner only has to collect them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from dasd_bench.config.spec import to_yaml
from dasd_bench.errors import UsageError
from dasd_bench.results.schema import StageTime
from dasd_bench.run.cluster.board import Board
from dasd_bench.run.cluster.units import Unit, unfinished_units
from dasd_bench.run.cluster.work import MARK, Done, WorkOrder, order
from dasd_bench.run.context import RunContext
from dasd_bench.run.graph import Graph
from dasd_bench.run.options import RunOptions
from dasd_bench.store.atomic import write_text


def check_launcher(options: RunOptions) -> None:
    """Raises :class:`UsageError` where the launcher's package is missing or its options make no sense."""
    if options.launcher == "ray":
        from dasd_bench.run.cluster.ray_launcher import check_ray

        check_ray()
    elif options.launcher == "slurm":
        from dasd_bench.run.cluster.slurm import check_slurm

        check_slurm(options.slurm)
    elif options.launcher == "skypilot":
        raise UsageError("--launcher skypilot only writes a task file: use it with --dry-run, then run sky launch.")


def fill(context: RunContext, graph: Graph, options: RunOptions) -> None:
    """Computes every unfinished stage on the cluster; what failed there raises when the runner comes to it.

    Raises :class:`DasdError` before any work where the cluster cannot be reached or its nodes do not fit the run.
    """
    write_text(context.directory.spec, to_yaml(context.spec))
    if not all(matching.known() for matching in graph.matchings):
        # The budget that arms share follows from their targets: those first.
        _fill(context, unfinished_units(graph, options.split), options)
    left = [unit for unit in unfinished_units(graph, options.split) if unit.entry not in context.failed]
    _fill(context, left, options)


def _fill(context: RunContext, units: Sequence[Unit], options: RunOptions) -> None:
    if not units:
        return
    orders = work_orders(context, units)
    with Board(context.console, len(units)) as board:
        if options.launcher == "ray":
            from dasd_bench.run.cluster.ray_launcher import run_units

            outcomes = run_units(units, orders, options.ray, board)
        else:
            from dasd_bench.run.cluster.slurm import run_arrays

            outcomes = run_arrays(units, orders, options.slurm, board, context.run_dir)
    for unit in units:
        outcome = outcomes[unit.id]
        if isinstance(outcome, Done):
            cost = _cost(unit, outcome)
            earlier = context.recorder.elsewhere.get(unit.entry)
            context.recorder.elsewhere[unit.entry] = cost if earlier is None else _sum(earlier, cost)
        else:
            context.failed[unit.entry] = outcome.error()


def work_orders(context: RunContext, units: Sequence[Unit]) -> dict[str, WorkOrder]:
    """The order of every unit, by id; marks the store so that nodes can tell that they see it."""
    path = context.store.root / MARK
    try:
        mark = path.read_text(encoding="utf-8")
    except OSError:
        mark = uuid.uuid4().hex
        write_text(path, mark)
    return {unit.id: order(context, unit, mark) for unit in units}


def _sum(first: StageTime, second: StageTime) -> StageTime:
    """What the shares of a stage took together."""
    return replace(
        first,
        seconds=first.seconds + second.seconds,
        cpu_seconds=first.cpu_seconds + second.cpu_seconds,
        peak_memory_gib=max(first.peak_memory_gib, second.peak_memory_gib),
    )


def _cost(unit: Unit, done: Done) -> StageTime:
    stage = unit.stage
    return StageTime(
        name=stage.name,
        seconds=done.seconds,
        reused=False,
        cpu_seconds=done.cpu_seconds,
        peak_memory_gib=done.peak_memory_gib,
        arm=stage.label,
        seed=stage.seed,
    )
