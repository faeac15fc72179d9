"""Plans for models and GPUs that are not on this machine, and the sentence that states a run's scale."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dasd_bench.cli.main import run_cli
from dasd_bench.resources.gpus import DEFAULT, GPUS, planned_gpu

BASE = ["run", "--method", "sft,dasd", "--seeds", "0,1", "--tasks", "mini_arc", "--train-limit", "8", "--limit", "4"]


@pytest.fixture(autouse=True)
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("DASD_CACHE_DIR", str(tmp_path / "cache"))


def events(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    assert run_cli([*BASE, *arguments, "--dry-run", "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_model_that_is_missing_is_planned_for_a_gpu_that_is(capsys: pytest.CaptureFixture[str]) -> None:
    found = events(capsys, "--model", "llama3-8b", "--assume-gpu", "h100")
    texts = [str(one.get("text", "")) for one in found]
    (planned,) = (one for one in found if "plan" in one)
    assert planned["model_missing"] is True
    trained = [row for row in planned["plan"] if row["kind"] == "train"]
    assert len(trained) == 4
    # 8.03 billion weights in bf16 are 15 GiB; an H100 holds them and LoRA's activations.
    assert all(15 < row["memory_gib"] < 70 and not row["advice"] for row in trained)
    assert any(text.startswith("Scale: 8 training rows and 4 test items in all, 4 trainings, about ") for text in texts)
    assert any("GPU-hours" in text for text in texts)
    assert any("published for the GPU h100" in text for text in texts)


def test_the_plan_of_a_missing_model_has_the_stages_of_one_that_is_here(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--warmup", "mini_gsm", "--set", "training.evaluate_at=0.5", "--retention", "mini_math"]
    given += ["--store", str(tmp_path / "store"), "-o", str(tmp_path / "run")]

    def stages(model: str) -> list[tuple[object, ...]]:
        (planned,) = (one for one in events(capsys, *given, "--model", model) if "plan" in one)
        return [tuple(row[name] for name in ("kind", "stage", "arm", "seed", "state")) for row in planned["plan"]]

    found = stages("llama3-8b")
    assert {"warmup", "outputs", "drift"} <= {row[0] for row in found}
    assert found == stages(str(tiny_folder("llama")))


def test_a_model_of_unknown_shape_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    found = events(capsys, "--model", "someone/Model-7B")
    assert any(one.get("model_missing") is True for one in found)
    assert any("Nothing is known of this model's shape" in str(one.get("text")) for one in found)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_login_node_without_a_gpu_plans_for_one(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit")
    found = events(
        capsys,
        *("--model", str(tiny_folder("llama")), "--store", str(tmp_path / "store"), "-o", str(tmp_path / "run")),
        *("--launcher", "slurm", "--slurm", "partition=gpu,gpus_per_node=1,time=4:00:00"),
    )
    assert any(f"published for the GPU {DEFAULT}" in str(one.get("text")) for one in found)
    assert all("--gpus-per-node=1" in str(one["script"]) for one in found if "script" in one)
    assert sum("script" in one for one in found) > 2


def test_assuming_a_gpu_is_for_plans(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli([*BASE, "--assume-gpu", "h200"]) == 2
    assert "add --dry-run" in capsys.readouterr().err
    assert run_cli([*BASE, "--model", "llama3-8b", "--assume-gpu", "a100-80", "--dry-run"]) == 2
    assert "Did you mean 'a100-80gb'?" in capsys.readouterr().err


def test_help_names_every_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    run_cli(["run", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"{', '.join(GPUS)}." in text
    assert planned_gpu("cpu", "") is None
