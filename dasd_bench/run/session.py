"""One run from its specification to its results: prepared, worked off under its lock, tracked."""

from __future__ import annotations

from dataclasses import replace

from dasd_bench.config.spec import RunSpec
from dasd_bench.console import Console
from dasd_bench.registry import Registry
from dasd_bench.results.progress import ProgressFile
from dasd_bench.results.schema import RunResults
from dasd_bench.run.cluster.fill import check_launcher, fill
from dasd_bench.run.data import TaskData
from dasd_bench.run.manifest import interrupted_line
from dasd_bench.run.options import RunOptions
from dasd_bench.run.plan import learn_rates, plan_lines, scale_line
from dasd_bench.run.prepare import check_run_dir, prepare
from dasd_bench.run.runner import execute
from dasd_bench.store.locks import FileLock


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run; the message says what is saved and how to resume."""


def run_session(
    spec: RunSpec,
    options: RunOptions,
    registry: Registry,
    console: Console,
    data: list[TaskData] | None = None,
) -> RunResults:
    """Runs ``spec``: see :func:`dasd_bench.api.run`."""
    from dasd_bench.run.tracking import Tracking, check_trackers

    options = replace(options, assumed_gpu="")
    trackers = check_trackers(options.track)
    check_launcher(options)
    prepared = prepare(spec, registry, options, console, data)
    context = prepared.context
    context.recorder.planned = [row.seconds for row in prepared.plan]
    console.say(scale_line(prepared.data, prepared.plan))
    console.say(plan_lines(prepared.plan)[-1])
    if not options.on_cluster and any(row.state == "to do" for row in prepared.plan):
        context.build_kernels()
    tracking = Tracking(trackers, context.run_dir, console)
    with FileLock(context.directory.lock, on_wait=console.notice) as lock:
        # Again: another run may have had the folder until now.
        check_run_dir(context.run_dir, spec)
        progress = ProgressFile(context.directory.progress)
        context.recorder.progress, context.console.on_progress = progress, progress.meter
        try:
            if options.on_cluster:
                fill(context, prepared.graph, options)
            results = execute(context, prepared.data, prepared.graph, tracking.arm_done, lambda: not lock.lost)
        except KeyboardInterrupt:
            raise RunInterrupted(interrupted_line(context)) from None
        finally:
            context.console.on_progress = None
            progress.end()
    learn_rates(context, prepared.plan, context.recorder.stages)
    return results
