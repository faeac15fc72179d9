"""The shipped methods with teachers and rollouts in the trainer: continued, they end with the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dasd_bench.methods.base import build_method
from dasd_bench.registry import discover
from dasd_bench.training.rollouts import Decoding
from dasd_bench.training.trainer import train
from tests.tiny_models import tiny_tokenizer
from tests.training.helpers import BASE, make_examples, metrics, quiet, soft_model
from tests.training.test_resume import adapter_bytes, stopped, untimed

OPTIONS: list[tuple[str, dict[str, object], int]] = [
    ("kl-anchor", {}, 1),
    ("gkd", {"teacher": "live", "new_tokens": 6}, 1),
    ("sdft-onpolicy", {"teacher_decay": 0.7, "new_tokens": 6}, 1),
    ("opsd", {"new_tokens": 6}, 1),
    ("unisd", {"teacher_every": 2, "gamma": 1.0, "contexts": 2, "new_tokens": 6}, 3),
]


@pytest.mark.parametrize(("name", "options", "teachers"), OPTIONS, ids=[one[0] for one in OPTIONS])
def test_a_continued_run_ends_with_the_same_bytes(
    name: str, options: dict[str, object], teachers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = build_method(discover().method(name).item, options)
    rng = np.random.default_rng(5)
    examples = [
        replace(e, teacher_prompts=tuple(rng.integers(10, 300, 6 + 5 * k).astype(np.int32) for k in range(teachers)))
        for e in make_examples(6, seed=1)
    ]

    def go(out: Path) -> None:
        config = replace(BASE, lr=1e-2, batch_size=3, epochs=2, checkpoint_steps=2, lora_dropout=0.1)
        decoding = Decoding(tiny_tokenizer("llama"), frozenset({3}))
        train(
            soft_model("llama"),
            examples,
            config,
            method=method,
            seed=0,
            out_dir=out,
            console=quiet(),
            max_length=512,
            decoding=decoding,
        )

    go(tmp_path / "whole")
    with stopped(3, monkeypatch):
        go(tmp_path / "cut")
    go(tmp_path / "cut")
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")
    assert untimed(tmp_path / "cut") == untimed(tmp_path / "whole")
    losses = [line["loss"] for line in metrics(tmp_path / "whole")]
    # The same weights under another prompt: the loss of a live or an averaged teacher is not 0 at the start.
    assert losses[0] > 1e-6
    assert len(set(losses)) == 4
