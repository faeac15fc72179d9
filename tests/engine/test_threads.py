"""Threads follow the process's CPU affinity and its cgroups' quota; what the user set stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dasd_bench.engine.threads import SPINS, prepare_threads, usable_cores


def cgroup_v2(folder: Path, name: str, quota: str) -> tuple[Path, Path]:
    (folder / "proc").mkdir()
    (folder / "proc" / "cgroup").write_text(f"0::{name}\n")
    inner = folder / "cgroups" / name.strip("/")
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text(quota)
    return folder / "proc", folder / "cgroups"


@pytest.mark.parametrize(("quota", "cores"), [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None)])
def test_a_quota_limits_the_cores(tmp_path: Path, quota: str, cores: int | None) -> None:
    affine = len(os.sched_getaffinity(0))
    assert usable_cores(*cgroup_v2(tmp_path, "/job/step", quota)) == (cores or affine)


def test_the_quota_of_an_outer_group_counts(tmp_path: Path) -> None:
    proc, cgroups = cgroup_v2(tmp_path, "/job/step", "max 100000")
    (cgroups / "job" / "cpu.max").write_text("100000 100000")
    assert usable_cores(proc, cgroups) == 1


def test_the_quota_of_version_one_counts(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("4:cpu,cpuacct:/job\n")
    folder = tmp_path / "groups" / "cpu" / "job"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("100000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path, tmp_path / "groups") == 1
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert usable_cores(tmp_path, tmp_path / "groups") == len(os.sched_getaffinity(0))


def test_what_the_user_set_stays() -> None:
    own = {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "active"}
    prepare_threads(own)
    assert own == {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "active"}
    none: dict[str, str] = {}
    prepare_threads(none)
    assert none == {"OMP_NUM_THREADS": str(usable_cores()), "GOMP_SPINCOUNT": SPINS}
