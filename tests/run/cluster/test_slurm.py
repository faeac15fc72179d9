"""A run through a real Slurm of one node: arrays with dependencies, a requeued job, the bytes of a local run."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.api import RunOptions, RunSpec, make_spec, run
from dasd_bench.errors import UsageError
from dasd_bench.run.cluster import slurm as launcher
from dasd_bench.run.options import SlurmOptions
from tests.run.helpers import artifacts

SCRIPT = Path(__file__).with_name("slurm_node.sh")

pytest.importorskip("submitit", reason="the extra [slurm] is not installed")


def _free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


@pytest.fixture(scope="module")
def slurm_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A running Slurm cluster that sbatch, squeue and scancel of this process talk to."""
    folder = tmp_path_factory.mktemp("slurm")
    faults = folder / "faults.txt"
    # The daemons keep the files of the script that starts them, so a pipe would never end.
    with faults.open("w") as file:
        command = ["bash", str(SCRIPT), "start", str(folder), _free_port(), _free_port()]
        started = subprocess.run(command, stdout=subprocess.PIPE, stderr=file, text=True, check=False)
    if started.returncode != 0:
        pytest.skip(f"Slurm cannot start here: {faults.read_text().strip()}")
    name, _, value = started.stdout.strip().partition("=")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        # Float sums depend on the number of threads: both runs use one.
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    subprocess.run(["bash", str(SCRIPT), "stop", str(folder)], check=True)


def _time_limit(store: Path, signalled: list[str]) -> None:
    """Sends the running job the signal of a time limit as soon as its training has left a checkpoint."""
    while not list(store.glob("train/*/checkpoints/step-*/checkpoint.json")):
        time.sleep(0.02)
    listed = subprocess.run(["squeue", "--me", "-h", "-t", "R", "-o", "%i"], capture_output=True, text=True)
    signalled += listed.stdout.split()
    subprocess.run(["scancel", "--signal=USR2", *signalled], check=True)


def spec(model: Path, seeds: list[int]) -> RunSpec:
    return make_spec(
        model=str(model),
        methods=["sft"],
        tasks=["mini_arc"],
        seeds=seeds,
        train_limit=4,
        limit=2,
        num_fewshot=0,
        settings=[
            "training.epochs=150",
            "training.batch_size=4",
            "training.checkpoint_steps=10",
            "training.lora_rank=2",
        ],
    )


@pytest.mark.usefixtures("slurm_node")
def test_a_job_at_its_time_limit_is_requeued_and_the_run_is_that_of_one_machine(
    tiny_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_folder("llama")
    monkeypatch.setattr(launcher, "POLL_SECONDS", 0.3)
    # The first seed needs no cluster. What is left are two layers: the training, then two ways to measure it.
    run(spec(model, [0]), RunOptions(output=tmp_path / "first", store=tmp_path / "shared"))
    signalled: list[str] = []
    threading.Thread(target=_time_limit, args=(tmp_path / "shared", signalled), daemon=True).start()
    options = RunOptions(
        output=tmp_path / "slurm",
        store=tmp_path / "shared",
        launcher="slurm",
        slurm=SlurmOptions((("partition", "test"), ("time", "10"), ("cpus-per-task", "1"))),
    )
    results = run(spec(model, [0, 1]), options)
    assert results.status == "finished"

    scripts = sorted((tmp_path / "slurm" / launcher.FOLDER).glob("*_submission.sh"))
    texts = [script.read_text() for script in scripts]
    first = scripts[0].name.split("_")[0]
    assert len(texts) == 2
    assert all("#SBATCH --requeue\n" in text for text in texts)
    assert f"#SBATCH --dependency=afterany:{first}\n" in texts[1]
    assert "#SBATCH --array=0-1" in texts[1]

    assert signalled == [first]
    shown = subprocess.run(["scontrol", "show", "job", first], capture_output=True, text=True, check=True).stdout
    assert "Restarts=1 " in shown

    run(spec(model, [0, 1]), RunOptions(output=tmp_path / "here", store=tmp_path / "own"))
    adapters = {k: v for k, v in artifacts(tmp_path / "here").items() if k.startswith(("methods", "base"))}
    assert adapters
    assert adapters.items() <= artifacts(tmp_path / "slurm").items()


@pytest.mark.usefixtures("slurm_node")
def test_what_sbatch_refuses_is_one_sentence(tiny_folder: Any, tmp_path: Path) -> None:
    options = RunOptions(
        output=tmp_path / "run",
        store=tmp_path / "store",
        launcher="slurm",
        slurm=SlurmOptions((("partition", "elsewhere"),)),
    )
    with pytest.raises(UsageError, match="sbatch refused the job: Batch job submission failed: Invalid partition name"):
        run(spec(tiny_folder("llama"), [0]), options)
