"""Works off a run's stage graph on this machine and keeps the run directory up to date."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from dasd_bench.config.spec import to_yaml
from dasd_bench.errors import DasdError, PluginError, StoreError, TaskError
from dasd_bench.results.schema import Arm, RunResults, SeedArm
from dasd_bench.run.artifacts import missing_files
from dasd_bench.run.budget import train_summary
from dasd_bench.run.collect import arm_row, model_scores, remark, seed_arm
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import TaskData
from dasd_bench.run.graph import AdapterStages, ArmStages, Graph
from dasd_bench.run.manifest import Earlier, LeftOut, conditions, take_manifest, write_cancelled, write_manifest
from dasd_bench.run.stages.base import Stage
from dasd_bench.store.atomic import remove_leftovers, write_text

ArmDone = Callable[[RunResults, Arm, SeedArm], None]
"""Called with every finished arm and seed."""


def execute(
    context: RunContext,
    data: list[TaskData],
    graph: Graph,
    arm_done: ArmDone | None = None,
    owned: Callable[[], bool] = lambda: True,
) -> RunResults:
    """Runs every stage. Arms that fail are reported and left out; the status then is ``partial``.

    While it works the run directory has no manifest. Where it ends early, or some arms failed, before a file there was
    overwritten with anything new, a finished run that was repeated gets its manifest and its results back. ``owned``
    says whether the directory still is this run's; raises :class:`StoreError` where it was removed, in whole or in
    part, while the run worked.
    """
    earlier = take_manifest(context.run_dir)
    try:
        results = _Execution(context, data, graph, owned).run(arm_done)
    except KeyboardInterrupt:
        if not _put_back(context, data, earlier, owned):
            write_cancelled(context)
        raise
    except BaseException as error:
        if isinstance(error, OSError):
            check_owned(context, owned)
        _put_back(context, data, earlier, owned)
        if isinstance(error, SystemExit):
            raise PluginError(f"A task plugin or a package that it uses called sys.exit({error.code!r}).") from error
        raise
    if results.status == "partial" and _put_back(context, data, earlier, owned):
        context.console.notice(f"The results of the earlier run in {context.run_dir} were kept.")
    return results


def _put_back(context: RunContext, data: list[TaskData], earlier: Earlier | None, owned: Callable[[], bool]) -> bool:
    """Gives the run directory the manifest and results of the run before, where nothing else there has changed."""
    if earlier is None or context.overwritten or not owned() or not earlier.holds_under(conditions(context, data)):
        return False
    try:
        results = RunResults.from_json(earlier.results.decode("utf-8"))
    except (StoreError, UnicodeDecodeError):
        return False
    if missing_files(context.directory, results):
        return False
    earlier.put_back(context.run_dir)
    return True


def check_owned(context: RunContext, owned: Callable[[], bool]) -> None:
    """Raises :class:`StoreError` where the run directory was removed, or is another run's by now."""
    if owned():
        return
    directory = context.directory
    if not os.path.lexists(directory.spec) and not os.path.lexists(directory.lock):
        # What was written since lies in a folder of the same name: with this file the same command resumes there.
        write_text(directory.spec, to_yaml(context.spec))
    raise StoreError(
        f"{context.run_dir} was removed or taken over by another run during this run; the results are in the "
        "store, so run the same command again to restore the directory."
    )


class _Execution:
    """One pass over the graph: what failed so far, what was left out, the results as they grow."""

    def __init__(self, context: RunContext, data: list[TaskData], graph: Graph, owned: Callable[[], bool]) -> None:
        spec = context.spec
        self.context = context
        self.data = data
        self.graph = graph
        self.owned = owned
        self.failures: list[str] = []
        self.left_out: list[LeftOut] = []
        self.results = RunResults(
            run_id=context.run_dir.name,
            status="partial",
            model=spec.model,
            tasks=[],
            arms=[],
            base={},
            seeds=list(spec.seeds),
            methods=[*(arm.label for arm in context.arms), *(one.label for one in context.adapters)],
            train=train_summary(context),
        )

    def run(self, arm_done: ArmDone | None) -> RunResults:
        """All stages in the graph's order, results saved after each arm."""
        context, results = self.context, self.results
        remove_leftovers(context.run_dir)
        write_text(context.directory.spec, to_yaml(context.spec))
        if self.graph.warmup is not None:
            self.graph.warmup.run()
        prepared = []
        for one in self.graph.arms:
            if self._succeeds(one, one.prepared()):
                prepared.append(one)
            # Read again from the store when its turn comes: the targets of all arms would fill the memory.
            one.release()
        if self.graph.arms and not prepared:
            raise DasdError(f"No arm could be prepared: {self.failures[0]}")
        for matching in self.graph.matchings:
            matching.settle([one.scores for one in prepared if isinstance(one, ArmStages)])
            context.console.say(matching.line())
        if self.graph.train_first:
            prepared = [one for one in prepared if self._trained(one)]
        self._measure_base()
        results.base = model_scores(self.graph.base)
        results.tasks = [one.info() for one in self.graph.base.evaluations.values()]
        context.evaluation = {name: one.value.summary["config"] for name, one in self.graph.base.evaluations.items()}
        results.conditions = conditions(context, self.data)
        finished: list[ArmStages | AdapterStages] = []
        for one in prepared:
            check_owned(context, self.owned)
            if (self.graph.train_first or self._trained(one)) and self._succeeds(one, one.measured()):
                finished.append(one)
                row, seed = self._add(one)
                self._save()
                if arm_done is not None:
                    arm_done(results, row, seed)
            one.release()
        self._measure_drift(finished)
        results.warnings = list(dict.fromkeys(context.console.warnings))
        if not self.failures:
            results.status = "finished"
        self._save()
        self._check_complete()
        if context.store.journal is not None and not self.failures:
            # What earlier sessions noted and is not used any more may be pruned; failed arms still need theirs.
            context.store.journal.replace(context.store.used)
        write_manifest(context, self.data, results.status, self.failures, self.left_out)
        check_owned(context, self.owned)
        return results

    def _measure_base(self) -> None:
        """Measures the base; a task whose plugin fails on it is left out of the run, the last one ends the run."""
        for name in list(self.graph.base.evaluations):
            try:
                for stage in self.graph.base.measured_on(name):
                    stage.run()
            except TaskError as error:
                self.graph.drop_task(name)
                if not self.graph.base.evaluations:
                    raise
                self.failures.append(f"task {name}: {error}")
                self.context.console.warn(f"Task {name} failed and is left out: {error}")
        if self.graph.base.outputs is not None:
            self.graph.base.outputs.run()

    def _trained(self, one: ArmStages | AdapterStages) -> bool:
        check_owned(self.context, self.owned)
        return self._succeeds(one, one.training())

    def _succeeds(self, arm: ArmStages | AdapterStages, stages: Iterable[Stage[Any]]) -> bool:
        """Runs stages of one arm; an error of the arm's own ends the arm and not the run."""
        try:
            for stage in stages:
                stage.run()
        except DasdError as error:
            self.failures.append(f"{arm.who}: {error}")
            self.context.console.warn(f"{arm.who} failed: {error}")
            return False
        return True

    def _add(self, stages: ArmStages | AdapterStages) -> tuple[Arm, SeedArm]:
        """Puts a finished arm and seed into the results."""
        results = self.results
        row = next((arm for arm in results.arms if arm.label == stages.arm.label), None)
        if row is None:
            row = arm_row(stages.arm)
            results.arms.append(row)
        seed = seed_arm(stages)
        row.seeds.append(seed)
        if isinstance(stages, AdapterStages):
            return row, seed
        try:
            row.remark = remark(stages.arm.method, row)
        except PluginError as error:
            self.context.console.warn(str(error))
        for reason, ids in stages.train.left_out().items():
            self.left_out.append(LeftOut(stages.arm.label, stages.seed, reason, ids))
        results.train = train_summary(self.context, results.arms)
        return row, seed

    def _measure_drift(self, finished: list[ArmStages | AdapterStages]) -> None:
        base = self.graph.base.drift
        if base is None:
            return
        base.run()
        self.results.base_drift = base.value
        seeds = {(arm.label, seed.seed): seed for arm in self.results.arms for seed in arm.seeds}
        for one in finished:
            if one.model.drift is not None:
                one.model.drift.run()
                seeds[one.arm.label, one.seed].drift = one.model.drift.value

    def _save(self) -> None:
        self.results.stages = list(self.context.recorder.stages)
        self.results.save(self.context.run_dir)

    def _check_complete(self) -> None:
        """Raises :class:`StoreError` where the run directory, or a file in it, was removed while the run worked."""
        check_owned(self.context, self.owned)
        missing = missing_files(self.context.directory, self.results)
        if missing:
            raise StoreError(
                f"{missing[0]} was removed during the run ({len(missing)} files are missing); the results "
                "are in the store, so run the same command again to restore them."
            )
