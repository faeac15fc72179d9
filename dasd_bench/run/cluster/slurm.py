"""Units of work as Slurm job arrays, one per layer of the stage graph, through submitit.

A job that reaches its time limit is requeued and resumes from the store. A layer starts when the one before has ended,
well or not: a unit whose needs failed ends at once, and the arms that are not concerned go on.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dasd_bench.errors import UsageError
from dasd_bench.run.cluster.board import Board
from dasd_bench.run.cluster.units import Unit, layers
from dasd_bench.run.cluster.work import Outcome, WorkOrder, blocked, crashed, work
from dasd_bench.run.options import SlurmOptions

if TYPE_CHECKING:
    from submitit import Job
    from submitit.helpers import DelayedSubmission

FOLDER = "slurm"
"""The folder of scripts and logs in the run directory."""

TIMEOUTS = 20
"""How often a job that reached its time limit is requeued."""

POLL_SECONDS = 2.0

GONE = 15
"""Looks at the queue without a job before it counts as crashed: its result may reach this machine late."""


@dataclass(frozen=True, slots=True)
class Task:
    """A unit as submitit runs it: called on the node, asked for its continuation at the time limit."""

    given: WorkOrder

    def __call__(self) -> Outcome:
        """Computes the unit; its progress goes to the job's output as JSON lines."""
        return work(self.given, _print)

    def checkpoint(self) -> DelayedSubmission:
        """The task again: finished shards and checkpoints are in the store."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _print(fields: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")


def check_slurm(options: SlurmOptions) -> None:
    """Raises :class:`UsageError` where submitit is missing, or an option that submitit sets itself is given."""
    if importlib.util.find_spec("submitit") is None:
        raise UsageError("--launcher slurm needs submitit: pip install 'dasd-bench[slurm]'.")
    _parameters(options)


def scripts(units: Sequence[Unit], options: SlurmOptions, run_dir: Path) -> list[str]:
    """The batch script of every layer, as it would be submitted."""
    from submitit.slurm.slurm import _make_sbatch_string

    folder = run_dir / FOLDER
    command = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    found = []
    for number, layer in enumerate(layers(units)):
        after = {"dependency": f"afterany:<job of array {number}>"} if number else {}
        titles = "".join(f"#   {index}: {unit.title}\n" for index, unit in enumerate(layer))
        text = _make_sbatch_string(command, folder, **_parameters(options), **after, map_count=len(layer))
        found.append(
            f"# Array {number + 1}, after array {number}:\n{titles}{text}" if number else f"# Array 1:\n{titles}{text}"
        )
    return found


def run_arrays(
    units: Sequence[Unit], orders: Mapping[str, WorkOrder], options: SlurmOptions, board: Board, run_dir: Path
) -> dict[str, Outcome]:
    """Submits one array per layer, each after the one before, and waits for all. Interrupted, it cancels them."""
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError

    if shutil.which("sbatch") is None:
        raise UsageError("--launcher slurm: there is no sbatch on this machine; run it on a login node of the cluster.")
    waiting: list[tuple[Unit, Job[Outcome]]] = []
    outcomes: dict[str, Outcome] = {}
    after: dict[str, str] = {}
    try:
        for layer in layers(units):
            executor = SlurmExecutor(run_dir / FOLDER, max_num_timeout=TIMEOUTS)
            executor.update_parameters(**_parameters(options), **after)
            try:
                jobs = executor.submit_array([Task(orders[unit.id]) for unit in layer])
            except FailedJobError as error:
                raise UsageError(f"--launcher slurm: sbatch refused the job: {_last_line(error)}") from None
            after = {"dependency": f"afterany:{jobs[0].job_id.split('_')[0]}"}
            waiting += zip(layer, jobs, strict=True)
        gone: dict[str, int] = {}
        while waiting:
            queued = _queued()
            for unit, job in list(waiting):
                gone[unit.id] = 0 if job.job_id in queued else gone.get(unit.id, 0) + 1
                if job.paths.result_pickle.exists() or gone[unit.id] > GONE:
                    waiting.remove((unit, job))
                    outcomes[unit.id] = _outcome(unit, job, outcomes)
                    board.finished(unit.title, outcomes[unit.id])
                elif fields := _last_progress(job):
                    board.progress(unit.title, fields)
            time.sleep(POLL_SECONDS)
    except BaseException:
        for _, job in waiting:
            job.cancel(check=False)
        raise
    return outcomes


def _parameters(options: SlurmOptions) -> dict[str, Any]:
    """submitit's parameters: the options of sbatch that it knows, all others passed on as they are."""
    from submitit.slurm.slurm import _get_default_parameters

    own: dict[str, Any] = {}
    other: dict[str, Any] = {"requeue": True}
    for name, value in options.settings:
        key = name.replace("-", "_")
        if key in ("array", "dependency", "output", "error", "signal"):
            raise UsageError(f"--slurm {name}: dasd-bench sets it itself.")
        if key == "time":
            own[key] = minutes(value)
        elif key in _get_default_parameters():
            own[key] = value
        else:
            other[name] = value
    return {"job_name": "dasd-bench", "time": 24 * 60, **own, "additional_parameters": other}


def minutes(text: str) -> int:
    """A time limit in minutes from Slurm's forms: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S.

    Raises :class:`UsageError` for any other text.
    """
    days, dash, rest = text.rpartition("-")
    try:
        parts = [int(part) for part in rest.split(":")]
        if dash:
            hours, mins, seconds = [*parts, 0, 0][:3]
            total = int(days) * 1440 + hours * 60 + mins + (seconds > 0)
        elif len(parts) == 3:
            total = parts[0] * 60 + parts[1] + (parts[2] > 0)
        else:
            total = parts[0] + (len(parts) == 2 and parts[1] > 0)
    except ValueError:
        total = 0
    if total <= 0 or len(rest.split(":")) > 3:
        raise UsageError(f"--slurm time={text}: give minutes, H:MM:SS or D-HH:MM:SS, for instance time=4:00:00.")
    return total


def _queued() -> frozenset[str]:
    """Ids of the user's jobs that wait or run. submitit itself asks sacct, which needs Slurm's accounting."""
    found = subprocess.run(["squeue", "--me", "-h", "-r", "-o", "%i"], capture_output=True, text=True, check=False)
    return frozenset(found.stdout.split())


def _outcome(unit: Unit, job: Job[Outcome], outcomes: Mapping[str, Outcome]) -> Outcome:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    failed = blocked(unit, outcomes)
    if failed is not None:
        return failed
    try:
        outcome: Outcome = job.result()
    except (FailedJobError, UncompletedJobError) as error:
        return crashed(unit.title, error)
    return outcome


def _last_progress(job: Job[Outcome]) -> dict[str, Any] | None:
    """The latest progress event in a job's output; None where there is none yet."""
    try:
        with job.paths.stdout.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
            lines = file.read().split(b"\n")[:-1]
        fields = json.loads(lines[-1])
    except (OSError, ValueError, IndexError):
        return None
    return fields if isinstance(fields, dict) else None


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].removeprefix("sbatch: error: ") if lines else type(error).__name__
