"""Two processes against one: the same loss curve, the same adapter but for rounding, checkpoints for either."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from dasd_bench.training.batching import build_row, share
from dasd_bench.training.distributed import Processes
from tests.training.helpers import make_examples, metrics
from tests.training.test_resume import adapter_bytes, untimed
from tests.training.two_processes import train_as

ROOT = Path(__file__).parents[2]
FULL = {"lora_rank": 0, "gradient_checkpointing": True, "lr": 1e-3}
DROPOUT = {"lora_dropout": 0.2}

BEFORE: dict[str, dict[str, Any]] = {"one-data": {"stop_at": 3}, "one-fsdp": {"stop_at": 3}}
"""What one process does first, for two to go on with."""

TOGETHER: dict[str, dict[str, Any]] = {
    "data": {"rule": "profit-all"},
    "fsdp": {"rule": "idft", "sharded": True},
    "early": {"changes": {"early_stop_patience": 2, "early_stop_steps": 1, "evaluate_at": ["0.5"]}},
    "full": {"kind": "gemma2", "changes": FULL, "sharded": True},
    "one-data": {},
    "one-fsdp": {"sharded": True},
    "data-fsdp/1": {"stop_at": 3},
    "data-fsdp/2": {"sharded": True},
    "data-one": {"stop_at": 3},
    "fsdp-one": {"stop_at": 3, "sharded": True},
    "whole": {"changes": DROPOUT},
    "killed/1": {"changes": DROPOUT, "stop_at": 5},
    "killed/2": {"changes": DROPOUT},
    "taught/1": {"rule": "averaged", "teachers": 2, "stop_at": 3},
    "taught/2": {"rule": "averaged", "teachers": 2, "sharded": True},
    "taught-base": {"rule": "anchored", "teachers": 1, "sharded": True},
    "taught-silent": {"rule": "distilled", "teachers": 2, "silent": True, "sharded": True},
    "rolled": {"rule": "on-policy", "teachers": 1},
    "poison": {"poison": True, "kind": "llama"},
    "silent-data": {"silent": True},
    "silent-fsdp": {"silent": True, "sharded": True},
}
"""What two processes do, in order; a name up to the slash is the folder."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs of two processes, done in one start of them."""
    folder = tmp_path_factory.mktemp("two")
    for name, wish in BEFORE.items():
        train_as(Processes(), folder / name, wish)
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.training.two_processes", str(folder), json.dumps(TOGETHER)]
    running = [
        subprocess.Popen(command, cwd=ROOT, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    assert [process.wait(300) for process in running] == [0, 0]
    return folder


def alone(out: Path, **wish: Any) -> Path:
    """The same run in this one process."""
    train_as(Processes(), out, wish)
    return out


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in metrics(out)]


def assert_same_curve(one: Path, two: Path) -> None:
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    for key in ("kept_tokens", "all_tokens", "lr", "step"):
        assert [line[key] for line in metrics(two)] == [line[key] for line in metrics(one)]
    assert [line["grad_norm"] for line in metrics(two)] == pytest.approx(
        [line["grad_norm"] for line in metrics(one)], rel=1e-4
    )
    a, b = (load_file(out / "adapter" / "adapter_model.safetensors") for out in (one, two))
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        torch.testing.assert_close(b[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["data", "fsdp", "silent-data", "silent-fsdp", "early"])
def test_two_processes_have_the_loss_curve_of_one(name: str, folder: Path, tmp_path: Path) -> None:
    """``silent``: one example of eleven has trained tokens, so that a process has nothing to do."""
    wish = {k: v for k, v in TOGETHER[name].items() if k != "sharded"}
    one = alone(tmp_path / "one", **wish)
    assert_same_curve(one, folder / name)
    held_out = [[line.get("held_out_nll") for line in metrics(out)] for out in (one, folder / name)]
    assert held_out[1] == (pytest.approx(held_out[0], rel=1e-5) if name == "early" else held_out[0])


@pytest.mark.parametrize("name", ["taught/2", "taught-base", "taught-silent", "rolled"])
def test_teachers_and_batch_rules_are_those_of_one_process(name: str, folder: Path, tmp_path: Path) -> None:
    """And rollouts. ``taught`` has a batch rule and an EMA teacher, and goes on with cut layers from whole ones."""
    one = alone(tmp_path / "one", **{k: v for k, v in TOGETHER[name].items() if k != "sharded"})
    two = folder / name.split("/")[0]
    for key, within in (("loss", 1e-3), ("nll", 1e-5), ("grad_norm", 1e-3)):
        assert [x[key] for x in metrics(two)] == pytest.approx([x[key] for x in metrics(one)], rel=within, abs=1e-8)
    assert [x["kept_tokens"] for x in metrics(two)] == [x["kept_tokens"] for x in metrics(one)]


def test_cut_layers_are_held_in_parts(folder: Path, tmp_path: Path) -> None:
    """Full fine-tuning with gradient checkpointing, Gemma's extra norms on the way."""
    one = alone(tmp_path / "one", kind="gemma2", changes=FULL)
    assert losses(folder / "full") == pytest.approx(losses(one), rel=1e-5)
    names = [path.name for path in sorted((one / "adapter").iterdir())]
    assert names == [path.name for path in sorted((folder / "full" / "adapter").iterdir())]
    a, b = (load_file(out / "adapter" / "model.safetensors") for out in (one, folder / "full"))
    for name, tensor in a.items():
        torch.testing.assert_close(b[name], tensor, rtol=1e-3, atol=1e-5)
    parts = [json.loads((folder / "full" / f"size-{rank}.json").read_text()) for rank in (0, 1)]
    in_layers = sum(part for part, _ in parts)
    assert 0 < in_layers < parts[0][1]
    assert all(part == pytest.approx(in_layers / 2, rel=0.02) for part, _ in parts)


@pytest.mark.parametrize("name", ["fsdp", "full"])
def test_whole_tensors_are_kept_by_the_first_process_only(name: str, folder: Path) -> None:
    first, other = (json.loads((folder / name / f"kept-{rank}.json").read_text()) for rank in (0, 1))
    assert all(count > 0 for count in first)
    assert other == [0, 0]


@pytest.mark.parametrize("name", ["one-data", "one-fsdp", "data-fsdp", "data-one", "fsdp-one"])
def test_checkpoints_are_taken_up_by_another_number_of_processes(name: str, folder: Path, tmp_path: Path) -> None:
    """Every run stopped in step 4 and was taken up after step 2."""
    if name.endswith("-one"):
        assert [path.name for path in (folder / name / "checkpoints").iterdir()] == ["step-00000002"]
        alone(folder / name)
    assert_same_curve(alone(tmp_path / "whole"), folder / name)
    assert sorted(path.name for path in (folder / name).glob("[acm]*")) == ["adapter", "metrics.jsonl"]


def test_two_processes_resume_to_the_same_bytes(folder: Path) -> None:
    """Dropout too: every step has seeds of its own."""
    assert adapter_bytes(folder / "killed") == adapter_bytes(folder / "whole")
    assert untimed(folder / "killed") == untimed(folder / "whole")


def test_divergence_is_told_alike_by_all_processes(folder: Path) -> None:
    said = {(folder / "poison" / f"error-{rank}.txt").read_text() for rank in (0, 1)}
    assert len(said) == 1
    assert "loss nan on examples" in next(iter(said))
    assert "t/train/3" in next(iter(said))


@given(count=st.integers(1, 40), processes=st.integers(1, 7), seed=st.integers(0, 99))
def test_a_batch_is_shared_out_whole_and_evenly(count: int, processes: int, seed: int) -> None:
    rows = [build_row(e, 100) for e in make_examples(count, seed=seed)]
    shares = share(rows, processes)
    assert sorted(r.example_id for part in shares for r in part) == sorted(r.example_id for r in rows)
    tokens = [sum(len(r.input_ids) for r in part) for part in shares]
    assert max(tokens) - min(tokens) <= max(len(r.input_ids) for r in rows)
