"""What training takes is measured from its start, whatever the process held before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dasd_bench.training.memory import Memory
from tests.tiny_models import tiny_model
from tests.training.helpers import make_examples, metrics, run

CPU = torch.device("cpu")


def test_peak_is_what_came_on_top() -> None:
    before = np.ones(2**25)
    memory = Memory(CPU)
    memory.sample()
    assert memory.peak < 0.05
    more = np.ones(2**25)
    memory.sample()
    assert 0.24 < memory.peak < 0.3
    assert memory.last > memory.peak
    del before, more
    memory.sample()
    assert 0.24 < memory.peak < 0.3


def test_a_trained_arm_is_not_charged_for_what_was_there(tmp_path: Path) -> None:
    held = np.ones(2**26)
    result = run(tiny_model("llama"), make_examples(4), tmp_path)
    assert 0 <= result.peak_memory_gib < 0.4
    assert metrics(tmp_path)[-1]["memory_gib"] > held.nbytes / 2**30
