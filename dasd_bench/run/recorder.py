"""What each stage cost: wall and CPU seconds, peak memory, and whether the store had it already."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from dasd_bench.console import Console, format_seconds
from dasd_bench.results.progress import ProgressFile
from dasd_bench.results.schema import StageTime

GIB = 1024**3

SCHEDSTAT = Path("/proc/self/schedstat")
"""Nanoseconds of the main thread on a core, and those it waited for one."""


def peak_memory_gib() -> float:
    """The largest resident memory of this process so far, in GiB (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def cpu_seconds() -> float:
    """User and system CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def waited_seconds() -> float:
    """Seconds in which this process's main thread could have run but had no core; 0 where Linux does not count them."""
    try:
        return int(SCHEDSTAT.read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


@dataclass(slots=True)
class Stage:
    """The stage that is running; set ``reused`` when the store had its result, ``elsewhere`` where a node made it."""

    reused: bool = False
    elsewhere: StageTime | None = None


@dataclass(slots=True)
class Recorder:
    """Collects the cost of every stage of a run, in order.

    ``elsewhere`` holds, by ``<kind>/<key>``, what the stages cost that nodes of a cluster computed for this run.
    """

    console: Console
    stages: list[StageTime] = field(default_factory=list)
    elsewhere: dict[str, StageTime] = field(default_factory=dict)
    planned: list[float] = field(default_factory=list)
    """The estimated seconds of every stage of the plan, in the order in which they run; 0 for one in the store."""
    progress: ProgressFile | None = None
    """Is told of every stage that begins."""

    @property
    def place(self) -> str:
        """``[3/22]``: the stage that runs or has just ended; empty without a plan."""
        return f"[{min(len(self.stages) + 1, len(self.planned))}/{len(self.planned)}] " if self.planned else ""

    def seconds_left(self) -> float | None:
        """What the plan's remaining stages take, at the pace of the finished ones; None without a plan.

        The estimates are off by the same factor on a machine, so what is left is scaled by what the finished ones took.
        """
        if not self.planned:
            return None
        done = len(self.stages)
        pairs = [(spent.seconds, due) for spent, due in zip(self.stages, self.planned, strict=False) if due]
        spent, due = sum(one for one, _ in pairs), sum(one for _, one in pairs)
        return sum(self.planned[done:]) * (spent / due if due and spent > 1.0 else 1.0)

    @contextlib.contextmanager
    def stage(self, name: str, arm: str = "", seed: int | None = None) -> Iterator[Stage]:
        """Times a block; says a line when it ends: what was done, reused or computed, in what time."""
        stage = Stage()
        place = self.place
        who = " ".join(part for part in (arm, "" if seed is None else f"seed {seed}") if part)
        self.console.about = f"{place}{who}".strip()
        if self.progress is not None:
            number = min(len(self.stages) + 1, len(self.planned))
            self.progress.stage(name, who, number, len(self.planned), self.seconds_left())
        wall, cpu, waited = time.monotonic(), cpu_seconds(), waited_seconds()
        yield stage
        spent = StageTime(
            name=name,
            seconds=time.monotonic() - wall,
            reused=stage.reused,
            cpu_seconds=cpu_seconds() - cpu,
            peak_memory_gib=peak_memory_gib(),
            waited_seconds=waited_seconds() - waited,
            arm=arm,
            seed=seed,
        )
        if stage.elsewhere is not None:
            self.stages.append(replace(stage.elsewhere, name=name, arm=arm, seed=seed))
            return
        self.stages.append(spent)
        self.console.about = ""
        what = "reused from the store" if stage.reused else f"computed in {format_seconds(spent.seconds)}"
        left = self.seconds_left()
        rest = f", about {format_seconds(left)} left in all" if left and not stage.reused else ""
        self.console.event(
            "stage",
            text=f"{place}[{name}{' ' + who if who else ''}] {what}{rest}",
            number=len(self.stages),
            of=len(self.planned) or None,
            seconds_left=None if left is None else round(left, 1),
            stage=name,
            arm=arm,
            seed=seed,
            reused=stage.reused,
            seconds=round(spent.seconds, 3),
        )

    def reuse_counts(self) -> tuple[int, int]:
        """Stages reused and stages computed."""
        reused = sum(stage.reused for stage in self.stages)
        return reused, len(self.stages) - reused
