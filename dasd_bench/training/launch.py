"""Training in several processes from one command: starts them, passes on what they say, ends them together."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

import torch
from torch._C._distributed_c10d import TCPStore

from dasd_bench import errors
from dasd_bench.console import Console, Meter
from dasd_bench.engine.threads import usable_cores
from dasd_bench.errors import DasdError, TrainingError
from dasd_bench.training.batching import step_count
from dasd_bench.training.job import TrainJob, read_result, write_job
from dasd_bench.training.trainer import TrainResult
from dasd_bench.types import TrainingSet

GRACE_SECONDS = 5.0
"""Time a process gets to end by itself before it is killed."""


def launch(job: TrainJob, data: TrainingSet, count: int, console: Console) -> TrainResult:
    """Trains ``job`` in ``count`` processes on this machine; their news goes to ``console``.

    Processes get torchrun's environment variables, and an equal share of the cores unless OMP_NUM_THREADS says
    otherwise.
    Raises the error of the first process that fails; the others are ended then, as they are when this is interrupted.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory(prefix="dasd-bench-") as name:
        folder = Path(name)
        write_job(folder, job, data)
        workers = _Workers(folder, count, store.port)
        try:
            workers.watch(console, step_count(len(data.examples), job.training.batch_size, job.training.epochs))
        finally:
            workers.end()
        return read_result(folder)


class _Workers:
    """The running processes of one job."""

    def __init__(self, folder: Path, count: int, port: int) -> None:
        self.folder = folder
        given = os.environ.get("OMP_NUM_THREADS")
        # All cores is what one process gets by itself; several share them.
        share = str(max(1, torch.get_num_threads() // count))
        threads = share if given is None or given == str(usable_cores()) else given
        shared = {
            **os.environ,
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            # The meeting place is ours already, as it is torchrun's agent's.
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "OMP_NUM_THREADS": threads,
        }
        self.processes: list[subprocess.Popen[str]] = []
        for rank in range(count):
            with (folder / f"errors-{rank}.txt").open("w") as complaints:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "dasd_bench.training.worker", str(folder)],
                        env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                        stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
                        stderr=complaints,
                        text=True,
                    )
                )

    def watch(self, console: Console, steps: int) -> None:
        """Passes on the first process's news of ``steps`` until all have ended; raises where one fails."""
        news: queue.Queue[str] = queue.Queue()
        stream = self.processes[0].stdout
        assert stream is not None
        reader = threading.Thread(target=_read, args=(stream, news), daemon=True)
        reader.start()
        with console.progress("train", steps, "steps") as meter:
            while any(process.poll() is None for process in self.processes) or reader.is_alive() or not news.empty():
                try:
                    _pass_on(news.get(timeout=0.1), console, meter)
                except queue.Empty:
                    self._check()
        self._check()

    def _check(self) -> None:
        for rank, process in enumerate(self.processes):
            if process.poll():
                raise self._error(rank, process.returncode)

    def _error(self, rank: int, code: int) -> DasdError:
        # A process that only lost its neighbour fails too: the one that has something to say is asked first.
        for path in sorted(self.folder.glob("failed-*.json")):
            said = json.loads(path.read_text(encoding="utf-8"))
            kind: type[DasdError] = getattr(errors, said["kind"])
            return kind(said["text"])
        lines = (self.folder / f"errors-{rank}.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return TrainingError(
            f"Training process {rank} of {len(self.processes)} ended with code {code}"
            f"{': ' + lines[-1] if lines else ''}; run the same command again to resume from the last checkpoint."
        )

    def end(self) -> None:
        """Ends what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _read(stream: IO[str], news: queue.Queue[str]) -> None:
    for line in stream:
        news.put(line)


def _pass_on(line: str, console: Console, meter: Meter) -> None:
    """One event of the first process, as if it had happened here; other output (of a library) is left out."""
    try:
        event = json.loads(line)
    except ValueError:
        return
    if event["event"] == "progress":
        meter.total = event["total"]
        meter.go_on(event["earlier"] - meter.earlier)
        meter.advance(event["done"] - meter.done, event["tokens"] - meter.tokens)
    elif event["event"] == "warning":
        console.warn(event["text"].removeprefix("Warning: "))
    else:
        console.say(event["text"])
