"""How many threads a process should compute with, and how long they may spin; imports no torch.

OpenMP's threads wait for each other by spinning at the end of every parallel region. On a core that another process
wants, a spinning thread burns the time slice in which the thread that it waits for could have run. Bounded spinning
costs next to nothing on a quiet machine and keeps most of the speed on a busy one (``benchmarks/busy.py``).
"""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc/self")

SPINS = "300"
"""Turns of libgomp's waiting loop before a thread sleeps; by default it is 300,000."""


def usable_cores(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Cores that this process may use: its CPU affinity, and the CPU quota of its cgroups (v1 and v2), rounded up."""
    affine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affine, *(math.ceil(quota) for quota in _quotas(proc, cgroups))]))


def prepare_threads(environment: MutableMapping[str, str]) -> None:
    """Sets OpenMP's variables where the user did not; to be called before torch is imported."""
    environment.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPINS)


def _quotas(proc: Path, cgroups: Path) -> list[float]:
    """The CPU quota in cores of each cgroup that the process is in and of those around it."""
    try:
        lines = (proc / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return []
    found = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            root = cgroups
        elif "cpu" in controllers.split(","):
            root = cgroups / "cpu"
        else:
            continue
        inner = root / name.strip("/")
        # In a container the name may be the host's, and its folder is the root here.
        for folder in {root, *(one for one in (inner, *inner.parents) if one.is_relative_to(root))}:
            quota = _quota(folder)
            if quota is not None:
                found.append(quota)
    return found


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # no such controller, or "max"
        return None
