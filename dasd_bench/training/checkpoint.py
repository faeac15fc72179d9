"""Checkpoints that are whole or absent: a temporary folder, fsync, rename; the newest sound one is taken."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dasd_bench.atomic import disk_errors, write_text
from dasd_bench.training.adapter import sync, sync_tree


@dataclass(slots=True)
class Position:
    """How far a run has come; everything but the tensors. ``step`` updates are done."""

    step: int = 0
    target_tokens: int = 0
    kept_tokens: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    peak_memory_gib: float = 0.0


@dataclass(slots=True)
class Checkpoints:
    """The checkpoints of one run in ``folder``; ``fingerprint`` names everything the weights depend on."""

    folder: Path
    fingerprint: str
    keep: int
    foreign: int = field(default=0, init=False)

    def save(self, position: Position, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        """Writes a checkpoint of ``position`` and removes all but the newest ``keep``."""
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=self.folder, prefix=".partial-"))
            torch.save(
                {
                    "parameters": {name: p.detach() for name, p in parameters.items()},
                    "optimizer": optimizer.state_dict(),
                    "random": random_state(),
                },
                partial / "state.pt",
            )
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

    def load(self, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> Position | None:
        """Restores the newest sound checkpoint of this very run; None where there is none.

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
            device = next(iter(parameters.values())).device
            state = torch.load(path / "state.pt", map_location=device, weights_only=True)
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(state["parameters"][name])
            optimizer.load_state_dict(state["optimizer"])
            set_random_state(state["random"])
            return Position(**meta["position"])
        return None

    def clear(self) -> None:
        """Removes all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _found(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), reverse=True)


def random_state() -> dict[str, Tensor]:
    """The states of torch's generators (LoRA dropout draws from them)."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state.update({f"cuda:{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())})
    return state


def set_random_state(state: dict[str, Tensor]) -> None:
    """Puts the generators where :func:`random_state` found them."""
    torch.set_rng_state(state["cpu"].cpu())
    devices = [s.cpu() for name, s in state.items() if name != "cpu"]
    if devices:
        torch.cuda.set_rng_state_all(devices)


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
