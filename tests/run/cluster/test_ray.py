"""A run on a real Ray cluster of two nodes: one dies, another joins, the bytes are those of a local run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.api import RunOptions, RunSpec, make_spec, run
from dasd_bench.console import Console
from dasd_bench.errors import UsageError
from dasd_bench.run.options import RayOptions

pytest.importorskip("ray", reason="the extra [ray] is not installed")
if not os.environ.get("DASD_TEST_CLUSTER"):
    pytest.skip(
        "Ray keeps a pytest-xdist worker from ending: set DASD_TEST_CLUSTER and run this file alone",
        allow_module_level=True,
    )


class _Watcher(Console):
    """Calls ``on_first`` in a thread of its own when the first unit is done; notes the titles of all."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        super().__init__(quiet=True)
        self.on_first: Callable[[], None] | None = on_first
        self.titles: list[str] = []

    def event(self, kind: str, *, text: str = "", **fields: Any) -> None:
        if kind == "unit":
            self.titles.append(fields["title"])
            if self.on_first is not None:
                threading.Thread(target=self.on_first).start()
                self.on_first = None


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    # Float sums depend on the number of threads: both runs use one.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield made
    made.shutdown()


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


@pytest.mark.filterwarnings("ignore")
def test_a_node_dies_and_one_joins_and_the_run_is_that_of_one_machine(
    cluster: Any, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    doomed = cluster.add_node(num_cpus=1)

    def change_nodes() -> None:
        cluster.remove_node(doomed, allow_graceful=False)
        cluster.add_node(num_cpus=1)

    spec = small_spec(tiny_folder("llama"))
    console = _Watcher(change_nodes)
    options = RunOptions(
        output=tmp_path / "ray", store=tmp_path / "shared", launcher="ray", ray=RayOptions(address=cluster.address)
    )
    results = run(spec, options, console=console)
    assert results.status == "finished"
    assert len(console.titles) == sum(not stage.reused for stage in results.stages)
    run(spec, RunOptions(output=tmp_path / "here", store=tmp_path / "own"))
    adapters = sorted((tmp_path / "here").rglob("adapter_model.safetensors"))
    assert len(adapters) == 2
    for path in adapters:
        assert (tmp_path / "ray" / path.relative_to(tmp_path / "here")).read_bytes() == path.read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_no_cluster_at_the_address_is_one_sentence(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    options = RunOptions(
        output=tmp_path / "run", store=tmp_path / "store", launcher="ray", ray=RayOptions(address="127.0.0.1:1")
    )
    with pytest.raises(UsageError, match=r"There is no Ray cluster at '127\.0\.0\.1:1'"):
        run(small_spec(tiny_folder("llama")), options)
