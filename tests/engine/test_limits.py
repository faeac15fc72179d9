"""Memory limits around a process, from files as the kernel writes them."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from dasd_bench.engine.limits import cgroup_rooms


def written(folder: Path, **files: object) -> None:
    """Files of a cgroup folder; a double underscore stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_the_limits_of_all_cgroups_around_a_process_count(tmp_path: Path) -> None:
    """Version 2: the job's own folder sets none, the one above it does."""
    written(tmp_path / "proc", cgroup="0::/slurm/job_7/step_0")
    root = tmp_path / "cg"
    stat = "anon 10\nactive_file 300\ninactive_file 200"
    written(root / "slurm/job_7/step_0", memory__max="max", memory__current=900, memory__stat=stat)
    written(root / "slurm/job_7", memory__max=2000, memory__current=1000, memory__stat=stat)
    written(root / "slurm", memory__max=90000, memory__current=1000, memory__stat=stat)
    assert sorted(cgroup_rooms(tmp_path / "proc", root)) == [1500, 89500]


def test_version_1_and_a_container_that_sees_its_own_folder_as_the_root(tmp_path: Path) -> None:
    written(tmp_path / "proc", cgroup="9:name=systemd:/docker/abc\n4:cpu,memory:/docker/abc\n0::/")
    written(
        tmp_path / "cg/memory",
        memory__limit_in_bytes=5000,
        memory__usage_in_bytes=3000,
        memory__stat="inactive_file 1\ntotal_active_file 400\ntotal_inactive_file 600",
    )
    assert list(cgroup_rooms(tmp_path / "proc", tmp_path / "cg")) == [3000]


@pytest.mark.parametrize("limit", ["max", str(2**63 - 4096), "nonsense"])
def test_no_limit_is_none(tmp_path: Path, limit: str) -> None:
    written(tmp_path / "proc", cgroup="0::/")
    written(tmp_path / "cg", memory__max=limit, memory__current=1, memory__stat="inactive_file 0")
    assert list(cgroup_rooms(tmp_path / "proc", tmp_path / "cg")) == []
    assert list(cgroup_rooms(tmp_path / "absent", tmp_path / "cg")) == []


def test_a_limit_on_the_address_space_counts() -> None:
    """A child's own limit of 6 GiB: what is left of it is less than that, whatever the machine has."""
    code = "import torch; from dasd_bench.engine.limits import available_bytes as f; print(f(torch.device('cpu')))"
    limit = 6 << 30
    child = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert 0 < int(child.stdout) < limit
