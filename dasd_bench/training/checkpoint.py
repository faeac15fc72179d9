"""Checkpoints that are whole or absent: a temporary folder, fsync, rename; the latest valid one is loaded.

Each is sealed: the hash in it covers the tensors, the position and the metrics written so far, so that nothing damaged
is taken up. They hold whole tensors whatever the number of processes, so any number can go on. Random states are not
stored: the trainer seeds every step from the run's seed and the step.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from dasd_bench.store.atomic import (
    digest,
    disk_errors,
    is_plain_file,
    is_plain_folder,
    make_scratch,
    remove,
    write_text,
)
from dasd_bench.training.adapter import sync, sync_tree
from dasd_bench.training.loss import TokenLoss


@dataclass(slots=True)
class Position:
    """How far a run has come; everything but the tensors. ``step`` updates are done.

    ``nll`` is summed over ``nll_tokens``; ``loss`` is that of the last step. ``points`` are the adapters saved on the
    way: fraction of training, step, target tokens and kept tokens until then.
    The last three belong to early stopping: the least held-out loss, its step, and how often none was less since.
    """

    step: int = 0
    target_tokens: int = 0
    kept_tokens: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    peak_memory_gib: float = 0.0
    nll: float = 0.0
    nll_tokens: int = 0
    clipped_steps: int = 0
    generated_tokens: int = 0
    points: list[tuple[float, int, int, int]] = field(default_factory=list)
    best_loss: float = math.inf
    best_step: int = 0
    rounds_without_gain: int = 0

    def add(self, sums: TokenLoss, loss: float, *, clipped: bool, targets: int, peak_memory_gib: float) -> None:
        """Counts one more step, of ``loss`` and ``sums`` over ``targets`` target tokens."""
        self.step += 1
        self.loss = loss
        self.kept_tokens += sums.kept
        self.target_tokens += targets
        self.nll += sums.nll
        self.nll_tokens += sums.tokens
        self.clipped_steps += clipped
        self.peak_memory_gib = max(self.peak_memory_gib, peak_memory_gib)


@dataclass(slots=True)
class Checkpoints:
    """The checkpoints of one run in ``folder``; ``fingerprint`` names everything the weights depend on.

    ``metrics`` is the file with one line per step that goes with them.
    """

    folder: Path
    metrics: Path
    fingerprint: str
    keep: int
    foreign: int = field(default=0, init=False)

    def save(self, position: Position, state: dict[str, Any]) -> None:
        """Writes a checkpoint of ``position`` with its tensors and removes all but the newest ``keep``."""
        with disk_errors(self.folder):
            partial = make_scratch(self.folder, ".partial-")
            torch.save(state, partial / "state.pt")
            meta = {
                "fingerprint": self.fingerprint,
                "state_sha256": _sha256(partial / "state.pt"),
                "metrics_bytes": self.metrics.stat().st_size,
                "metrics_sha256": _sha256(self.metrics),
                "position": asdict(position),
            }
            (partial / "checkpoint.json").write_text(json.dumps(meta | {"sha256": digest(meta)}), encoding="utf-8")
            sync_tree(partial)
            final = self.folder / f"step-{position.step:08d}"
            remove(final)
            os.rename(partial, final)
            sync(self.folder)
            for old in self._found()[self.keep :]:
                remove(old)

    def newest(self) -> Path | None:
        """The latest valid checkpoint of this run; None where there is none.

        Half-written folders are removed; a damaged checkpoint is passed over for the one before it; checkpoints of
        other settings are counted in ``foreign`` and left out.
        """
        if not is_plain_folder(self.folder):
            remove(self.folder)
        for stale in self.folder.glob(".partial-*"):
            remove(stale)
        for path in self._found():
            meta = _read_meta(path)
            if meta is None or not self._whole(path, meta):
                continue
            if meta["fingerprint"] != self.fingerprint:
                self.foreign += 1
                continue
            return path
        return None

    @staticmethod
    def load(path: Path) -> tuple[Position, dict[str, Any]]:
        """The position and the tensors that a checkpoint holds, in main memory."""
        meta = _read_meta(path)
        assert meta is not None
        state: dict[str, Any] = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
        return Position(**meta["position"]), state

    def clear(self) -> None:
        """Removes all checkpoints."""
        remove(self.folder)

    def _whole(self, path: Path, meta: dict[str, Any]) -> bool:
        """True where tensors and metrics are as they were when the checkpoint was written."""
        state = path / "state.pt"
        if not is_plain_file(state) or not is_plain_file(self.metrics):
            return False
        metrics = self.metrics.read_bytes()[: meta["metrics_bytes"]]
        found = {"state_sha256": _sha256(state), "metrics_sha256": hashlib.sha256(metrics).hexdigest()}
        return all(meta[name] == value for name, value in found.items())

    def _found(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), reverse=True)


def truncate_metrics(path: Path, step: int) -> None:
    """Drops the lines of ``path`` after ``step``, and a torn last line."""
    if not is_plain_file(path):
        remove(path)
        return
    kept = []
    for line in path.read_bytes().splitlines() if step else ():
        try:
            if json.loads(line)["step"] > step:
                break
        except ValueError:
            break
        kept.append(line.decode("utf-8") + "\n")
    write_text(path, "".join(kept))


def _read_meta(path: Path) -> dict[str, Any] | None:
    """``checkpoint.json``; None where it is not, to the last byte, what was written."""
    if not is_plain_file(path / "checkpoint.json"):
        return None
    try:
        meta: dict[str, Any] = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
        seal = meta.pop("sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return meta if seal == digest(meta) else None


def _sha256(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()
