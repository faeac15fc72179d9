"""Checkpoints that are whole or absent: a temporary folder, fsync, rename; the newest sound one is taken.

They hold whole tensors whatever the number of processes, so any number can go on. Random states are not stored: the
trainer seeds every step from the run's seed and the step.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from dasd_bench.store.atomic import disk_errors, write_text
from dasd_bench.training.adapter import sync, sync_tree


@dataclass(slots=True)
class Position:
    """How far a run has come; everything but the tensors. ``step`` updates are done.

    The last three belong to early stopping: the least held-out loss, its step, and how often none was less since.
    """

    step: int = 0
    target_tokens: int = 0
    kept_tokens: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    peak_memory_gib: float = 0.0
    best_loss: float = math.inf
    best_step: int = 0
    rounds_without_gain: int = 0


@dataclass(slots=True)
class Checkpoints:
    """The checkpoints of one run in ``folder``; ``fingerprint`` names everything the weights depend on."""

    folder: Path
    fingerprint: str
    keep: int
    foreign: int = field(default=0, init=False)

    def save(self, position: Position, state: dict[str, Any]) -> None:
        """Writes a checkpoint of ``position`` with its tensors and removes all but the newest ``keep``."""
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=self.folder, prefix=".partial-"))
            torch.save(state, partial / "state.pt")
            meta = {
                "fingerprint": self.fingerprint,
                "sha256": _sha256(partial / "state.pt"),
                "position": asdict(position),
            }
            (partial / "checkpoint.json").write_text(json.dumps(meta), encoding="utf-8")
            sync_tree(partial)
            final = self.folder / f"step-{position.step:08d}"
            if final.exists():
                shutil.rmtree(final)
            os.rename(partial, final)
            sync(self.folder)
            for old in self._found()[self.keep :]:
                shutil.rmtree(old)

    def newest(self) -> Path | None:
        """The newest sound checkpoint of this very run; None where there is none.

        Half-written folders are removed; a damaged checkpoint is passed over for the one before it; checkpoints of
        other settings are counted in ``foreign`` and left out.
        """
        for stale in self.folder.glob(".partial-*"):
            shutil.rmtree(stale)
        for path in self._found():
            meta = _read_meta(path)
            if meta is None or not (path / "state.pt").exists() or _sha256(path / "state.pt") != meta["sha256"]:
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
        shutil.rmtree(self.folder, ignore_errors=True)

    def _found(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), reverse=True)


def truncate_metrics(path: Path, step: int) -> None:
    """Drops the lines of ``path`` after ``step``, and a torn last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] > step:
                break
        except ValueError:
            break
        kept.append(line + "\n")
    write_text(path, "".join(kept))


def _read_meta(path: Path) -> dict[str, Any] | None:
    try:
        meta: dict[str, Any] = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return meta


def _sha256(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()
