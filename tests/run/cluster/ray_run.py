"""A run on a real two-node Ray cluster, in a process of its own: ``python -m tests.run.cluster.ray_run MODEL FOLDER``.

One node is killed when the first unit is done, and another joins. Prints as JSON what the test asserts. Ray keeps the
process that it was started in from ending under pytest-xdist, hence the script.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dasd_bench.api import RunOptions, RunSpec, make_spec, run
from dasd_bench.console import Console
from dasd_bench.errors import DasdError, UsageError
from dasd_bench.run.options import RayOptions


class _Watcher(Console):
    """Calls ``on_first`` in a thread of its own when the first unit is done; notes the titles of all."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        super().__init__(quiet=True, stream=sys.stderr)
        self.on_first: Callable[[], None] | None = on_first
        self.titles: list[str] = []

    def event(self, kind: str, *, text: str = "", **fields: Any) -> None:
        if kind == "unit":
            self.titles.append(fields["title"])
            if self.on_first is not None:
                threading.Thread(target=self.on_first).start()
                self.on_first = None


def small_spec(model: Path) -> RunSpec:
    return make_spec(
        model=str(model),
        methods=["sft"],
        tasks=["mini_arc"],
        seeds=[0, 1],
        train_limit=2,
        limit=2,
        settings=["training.epochs=2", "training.lora_rank=2"],
    )


def main() -> None:
    from ray.cluster_utils import Cluster

    spec, folder = small_spec(Path(sys.argv[1])), Path(sys.argv[2])
    found: dict[str, Any] = {}
    nowhere = RunOptions(output=folder / "none", store=folder / "shared", launcher="ray", ray=RayOptions("127.0.0.1:1"))
    try:
        run(spec, nowhere, console=Console(quiet=True, stream=sys.stderr))
    except UsageError as error:
        found["nowhere"] = str(error)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    doomed = cluster.add_node(num_cpus=1)

    def change_nodes() -> None:
        cluster.remove_node(doomed, allow_graceful=False)
        cluster.add_node(num_cpus=1)

    greedy = RayOptions(address=cluster.address, num_gpus=8)
    try:
        run(
            spec,
            RunOptions(output=folder / "none", store=folder / "shared", launcher="ray", ray=greedy),
            console=Console(quiet=True, stream=sys.stderr),
        )
    except DasdError as error:
        found["greedy"] = str(error)
    console = _Watcher(change_nodes)
    options = RunOptions(
        output=folder / "ray", store=folder / "shared", launcher="ray", ray=RayOptions(address=cluster.address)
    )
    results = run(spec, options, console=console)
    computed = sum(not stage.reused for stage in results.stages)
    found |= {"status": results.status, "titles": console.titles, "computed": computed}
    cluster.shutdown()
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
