"""Run as a program: trains a tiny model and kills itself with SIGKILL at a named point. Used by ``test_resume``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from dasd_bench.training import adapter, checkpoint
from dasd_bench.training.trainer import _Run
from tests.training.helpers import RULES, make_examples, run, soft_model

SETTINGS: dict[str, Any] = {"epochs": 4, "checkpoint_steps": 2, "lora_dropout": 0.1, "schedule": "cosine"}


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arrange(point: str) -> None:
    """Puts the kill where ``point`` says."""
    if point == "step":
        original = _Run.backward

        def backward(self: _Run, pack: Any, progress: float) -> Any:
            if self.position.step == 4:
                die()
            return original(self, pack, progress)

        _Run.backward = backward  # type: ignore[method-assign]
    elif point == "checkpoint":
        save = torch.save

        def half(value: Any, path: Path) -> None:
            save(value, path)
            if len(list(path.parent.parent.glob("step-*"))) and value["optimizer"]["state"][0]["step"] >= 8:
                path.write_bytes(path.read_bytes()[:1000])
                die()

        checkpoint.torch.save = half  # type: ignore[assignment]
    elif point == "adapter":
        adapter.sync_tree = die  # type: ignore[assignment]


def main(out: Path, point: str) -> None:
    arrange(point)
    run(soft_model("qwen3"), make_examples(11, seed=2), out, RULES["dft"], **SETTINGS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
