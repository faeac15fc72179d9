"""The memory check of a run: what does not fit is refused in one sentence, what nearly fits is made to."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dasd_bench.resources.fit import RESERVE, TrainingFit
from dasd_bench.run import memory
from tests.run.helpers import command, run_args
from tests.tiny_models import tiny_model
from tests.training.helpers import make_examples
from tests.training.helpers import run as train_tiny

MIB = 1 << 20


def test_a_training_that_does_not_fit_is_refused_and_one_that_nearly_does_falls_back(
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the refusal says it needs is enough, with the reserve, for the same command."""
    arguments = run_args(tiny_folder("llama"), tmp_path, methods="sft")
    monkeypatch.setattr(memory, "available", lambda context: 3 * MIB // 5)  # scoring fits, training does not
    done = command(capsys, *arguments)
    assert done.code != 0
    text = done.out + done.err
    assert "is available; use --dtype bf16" in text
    assert not list(tmp_path.rglob("metrics.jsonl"))
    needed = re.search(r"Training needs ([0-9.]+) MiB", text)
    assert needed is not None
    enough = int((float(needed[1]) + 0.01) / RESERVE * MIB)
    monkeypatch.setattr(memory, "available", lambda context: enough)
    done = command(capsys, *arguments)
    assert done.code == 0, done.out
    assert "memory available, training uses unpacked weights" in done.out
    assert not list(tmp_path.rglob(memory.FIT_FILE))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_fallback_changes_the_adapter_beyond_rounding(checkpointing: bool, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    found = []
    for fit in (None, TrainingFit(packed=False, checkpointing=checkpointing, microbatch=64)):
        folder = tmp_path / str(fit is None)
        train_tiny(tiny_model("llama"), make_examples(8), folder, fit=fit)
        found.append(load_file(folder / "adapter" / "adapter_model.safetensors"))
    for name, tensor in found[0].items():
        assert np.allclose(tensor, found[1][name], atol=2e-4), name
