"""A run on a real Ray cluster of two nodes: one dies, another joins, the bytes are those of a local run."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dasd_bench.api import RunOptions, run
from tests.run.cluster.ray_run import small_spec

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra [ray] is not installed")
def test_a_node_dies_and_one_joins_and_the_run_is_that_of_one_machine(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = tiny_folder("llama")
    # Float sums depend on the number of threads: both runs use one.
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [sys.executable, "-m", "tests.run.cluster.ray_run", str(model), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["nowhere"].startswith("There is no Ray cluster at '127.0.0.1:1'")
    assert found["greedy"].startswith(
        "No node of the Ray cluster has what 'sft seed 0: targets' asks for (1 CPU cores, 8"
    )
    assert found["status"] == "finished"
    assert len(found["titles"]) == found["computed"]
    run(small_spec(model), RunOptions(output=tmp_path / "here", store=tmp_path / "own"))
    adapters = sorted((tmp_path / "here").rglob("adapter_model.safetensors"))
    assert len(adapters) == 2
    for path in adapters:
        assert (tmp_path / "ray" / path.relative_to(tmp_path / "here")).read_bytes() == path.read_bytes()
