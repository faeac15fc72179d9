"""How well Ray nodes are used by independent stages: one run on one node, then the same run on two.

Each node is a Ray process of its own on this machine with one CPU. The stages are trainings of a tiny model, one per
seed, each as long as ``--steps`` makes it, and their evaluations.

*Efficiency* is the wall time on one node over twice that on two, start of Ray's processes and imports included. On a
machine that others use as well it says little. *Busy* is the share of the nodes' time in which they computed a unit,
from the moment when as many units are done as there are nodes: what is missing went into placing units and waiting for
others. It does not depend on how fast the machine is at the time.

    python -m benchmarks.ray_nodes --seeds 8 --steps 400
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

from dasd_bench.api import RunOptions, make_spec, run
from dasd_bench.console import Console
from dasd_bench.run.options import RayOptions
from tests.tiny_models import make_tiny_model


class _Units(Console):
    """Notes when every unit ended and how long it took."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.ended: list[tuple[float, float]] = []

    def event(self, kind: str, *, text: str = "", **fields: Any) -> None:
        if kind == "unit":
            self.ended.append((time.monotonic(), fields.get("seconds", 0.0)))

    def busy(self, nodes: int) -> float:
        """The share of the nodes' time spent in units since each node could have finished one."""
        start, end = self.ended[nodes - 1][0], self.ended[-1][0]
        spent = sum(min(seconds, at - start) for at, seconds in self.ended[nodes:])
        return spent / (nodes * (end - start))


def timed(nodes: int, seeds: int, steps: int, folder: Path) -> tuple[float, float]:
    """Wall seconds of a run on ``nodes`` nodes, and how busy they were."""
    import ray
    from ray.cluster_utils import Cluster

    spec = make_spec(
        model=str(folder / "model"),
        methods=["sft"],
        tasks=["mini_arc"],
        seeds=list(range(seeds)),
        train_limit=8,
        limit=8,
        settings=[f"training.epochs={steps}", "training.batch_size=8", "training.lora_rank=2"],
    )
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(nodes - 1):
        cluster.add_node(num_cpus=1)
    place = folder / str(nodes)
    options = RunOptions(
        output=place / "run", store=place / "store", launcher="ray", ray=RayOptions(address=cluster.address)
    )
    console = _Units()
    started = time.monotonic()
    run(spec, options, console=console)
    seconds = time.monotonic() - started
    ray.shutdown()
    cluster.shutdown()
    return seconds, console.busy(nodes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="independent trainings")
    parser.add_argument("--steps", type=int, default=400, help="optimiser steps of each")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path, default=Path("ray-nodes"))
    given = parser.parse_args()
    shutil.rmtree(given.folder, ignore_errors=True)
    make_tiny_model("llama", given.folder / "model")
    walls = {}
    for nodes in given.nodes:
        load = os.getloadavg()[0]
        walls[nodes], busy = timed(nodes, given.seeds, given.steps, given.folder)
        print(
            f"{nodes} node(s): {walls[nodes]:.1f} s, busy {busy:.2f} (load of the machine before: {load:.1f})",
            flush=True,
        )
    if {1, 2} <= walls.keys():
        print(f"efficiency {walls[1] / (2 * walls[2]):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
