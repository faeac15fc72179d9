"""How much memory this process may still take: what the machine has free, its cgroup's limit and its own limit.

A process in a container or a batch job is killed at its cgroup's limit, however much memory the machine has.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc/self")

NO_LIMIT = 1 << 60
"""cgroup v1 writes "no limit" as a number a little below 2^63."""


def available_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated on ``device``.

    On a CPU the least of: the machine's available memory, less the weights that are memory-mapped and not yet read
    (the kernel counts their pages as available, and the model needs them); what is left below the limit of every cgroup
    that this process is in; what is left below ``ulimit -v``. On a GPU: free memory, with what torch's allocator holds
    unused.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    mapped = mapped_weight_bytes()
    rooms = [psutil.virtual_memory().available - mapped, *(room - mapped for room in cgroup_rooms(PROC, CGROUPS))]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        # Mappings count in full there from the start.
        rooms.append(soft - psutil.Process().memory_info().vms)
    return max(0, min(rooms))


def cgroup_rooms(proc: Path, cgroups: Path) -> Iterator[int]:
    """Bytes left below the memory limit of each cgroup (v1 and v2) of the process and of those around it.

    Pages of files count as left: the kernel drops them first.
    """
    try:
        lines = (proc / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            limit, used = "memory.max", "memory.current"
            roots = [cgroups, cgroups / "unified"]
        elif "memory" in controllers.split(","):
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
            roots = [cgroups / "memory", cgroups]
        else:
            continue
        for root in roots:
            inner = root / name.strip("/")
            # In a container the name may be the host's, and its folder is the root here.
            for folder in {root, *(one for one in (inner, *inner.parents) if one.is_relative_to(root))}:
                room = _room(folder, limit, used)
                if room is not None:
                    yield room


def _room(folder: Path, limit: str, used: str) -> int | None:
    try:
        most = int((folder / limit).read_text(encoding="utf-8"))
        now = int((folder / used).read_text(encoding="utf-8"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):  # no such controller, or "max"
        return None
    prefix = "total_" if "total_inactive_file" in stat else ""
    files = sum(int(stat.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
    return None if most >= NO_LIMIT else most - now + files


def mapped_weight_bytes() -> int:
    """Bytes of safetensors files that are mapped into this process."""
    try:
        lines = (PROC / "maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # no Linux
        return 0
    total = 0
    for line in lines:
        if line.endswith(".safetensors"):
            first, last = line.split(" ", 1)[0].split("-")
            total += int(last, 16) - int(first, 16)
    return total
