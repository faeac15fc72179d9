"""The methods with losses, teachers and rollouts of their own, through the command line on a tiny model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.run.helpers import command, run_args

GOLD = ("kl-anchor", "asft", "eaft", "prift", "prift-mass", "rho-1-batch")
DRAWN = ("gkd", "sdft-onpolicy", "opsd", "unisd")
SETTINGS = ("training.epochs=1", "training.batch_size=1", "training.warmup=0")


def small_run(model: Path, folder: Path, *methods: str) -> list[str]:
    """Arguments of a run on two training rows of one task, for one epoch."""
    short = [f"{name}.new_tokens=6" for name in methods if name in DRAWN]
    own = [word for setting in (*SETTINGS, *short) for word in ("--set", setting)]
    args = run_args(model, folder, "--train-limit", "2", "--limit", "2", *own, methods=",".join(methods))
    args[args.index("--tasks") + 1] = "mini_gsm"
    return args


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loss-methods")


@pytest.fixture
def arms(tiny_folder: Callable[[str], Path], folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The arms' folders of one run of all methods on two training rows, made once."""
    found = folder / "run" / "arms"
    if not found.exists():
        done = command(capsys, *small_run(tiny_folder("llama"), folder, *GOLD, *DRAWN))
        assert done.code == 0, done.err
    return found


def lines(arms: Path, name: str) -> list[dict[str, Any]]:
    text = (arms / name / "seed0" / "train" / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", [*GOLD, *DRAWN])
def test_every_method_runs_end_to_end(name: str, arms: Path) -> None:
    steps = lines(arms, name)
    assert len(steps) == 2
    assert all(math.isfinite(step["loss"]) and step["nll"] > 0 for step in steps)
    assert any(step["grad_norm"] > 0 for step in steps)
    generated = [step.get("generated_tokens") for step in steps]
    if name in GOLD:
        assert generated == [None, None]
    elif name == "gkd":
        assert sorted(bool(count) for count in generated) == [False, True]
    else:
        assert all(0 < count <= 6 for count in generated)
    if name in DRAWN:
        # The adapter does nothing at the first step: only another prompt makes the teacher's distribution another.
        assert steps[0]["loss"] > 1e-7
    assert (arms / name / "seed0" / "adapter" / "adapter_model.safetensors").is_file()


REFUSED = [
    ("kl-anchor", ("--set", "training.lora_rank=0"), "'kl-anchor' has the untrained model as its teacher"),
    ("gkd", ("--set", "training.lora_rank=0"), "'gkd' has the untrained model as its teacher"),
    ("prift-mass", ("--set", "training.lora_rank=0"), "'prift-mass' has the untrained model as its teacher"),
    ("unisd+teacher=base", ("--set", "training.lora_rank=0"), "'unisd' has the untrained model as its teacher"),
    ("sdft-onpolicy", ("--processes", "2", "--parallel", "fsdp"), "use --parallel data"),
    ("opsd", ("--set", "opsd.clip=-1"), "opsd.clip"),
    ("gkd", ("--set", "gkd.beta=1.5"), "gkd.beta"),
    ("unisd", ("--set", "unisd.teacher=gold"), "unisd.teacher"),
]


@pytest.mark.parametrize(("name", "more", "sentence"), REFUSED, ids=[f"{one[0]} {one[1][-1]}" for one in REFUSED])
def test_what_a_method_cannot_do_without_is_said_before_any_work(
    name: str, more: tuple[str, ...], sentence: str, tiny_folder: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    refused = command(capsys, *small_run(tiny_folder("llama"), tmp_path, name), *more)
    assert refused.code == 2
    assert sentence in refused.err
    assert len(refused.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
