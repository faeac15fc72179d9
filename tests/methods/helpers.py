"""Small specifications for tests of methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dasd_bench.config.spec import RunSpec
from dasd_bench.config.training import TrainingConfig


def spec_of(model: Path, **changed: Any) -> RunSpec:
    """Four training rows of mini_gsm, adapters of rank 2, one epoch."""
    values: dict[str, Any] = {
        "model": str(model),
        "tasks": ("mini_gsm",),
        "train_limit": 4,
        "sample": "first",
        "limit": 2,
        "max_new_tokens": 8,
        "training": TrainingConfig(lora_rank=2, epochs=1.0, batch_size=4),
    }
    return RunSpec(**(values | changed))
