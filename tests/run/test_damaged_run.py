"""A real run over a damaged store, finished or killed, gives the artifacts of an undamaged one."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dasd_bench.cli.main import run_cli
from dasd_bench.store.store import Entry
from tests.run.helpers import artifacts, command, run_args
from tests.store.damage import damage, damage_some

FEW = ["--limit", "2", "--train-limit", "2", "--quiet"]
METHODS = "dasd"


@pytest.fixture(scope="module")
def finished(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert run_cli(run_args(tiny_folder("llama"), folder, *FEW, methods=METHODS)) == 0
    return folder


def kill(monkeypatch: pytest.MonkeyPatch, args: list[str], point: str, count: int) -> None:
    """Runs and stops it, as a kill would, after ``count`` optimiser steps or files of the store."""
    place, name = (torch.optim.AdamW, "step") if point == "step" else (Entry, "put")
    original, left = getattr(place, name), iter(range(count))

    def counted(*rest: Any, **more: Any) -> Any:
        made = original(*rest, **more)
        if next(left, None) is None:
            raise SystemExit
        return made

    with monkeypatch.context() as patch:
        patch.setattr(place, name, counted)
        assert run_cli(args) == 1


@pytest.mark.parametrize(("point", "count"), [("", 0), ("put", 1), ("put", 4), ("step", 1)])
def test_a_damaged_store_gives_the_same_artifacts(
    point: str, count: int, finished: Path, tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch, capsys
) -> None:
    store, outside = tmp_path / "store", tmp_path / "outside"
    outside.write_text("not ours")
    args = run_args(tiny_folder("llama"), tmp_path, *FEW, methods=METHODS)
    if point:
        kill(monkeypatch, args, point, count)
    else:
        shutil.copytree(finished / "store", store)
    done = damage_some(store, 6, outside, random.Random(10 * count + len(point)))
    result = command(capsys, *args)
    assert result.code == 0, (done, result.err)
    assert artifacts(tmp_path / "run") == artifacts(finished / "run"), done
    assert outside.read_text() == "not ours"


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoint.json"])
def test_a_flipped_byte_of_a_killed_training_is_not_taken_up(
    name: str, finished: Path, tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch, capsys
) -> None:
    every = ["--set", "training.checkpoint_steps=1"]
    args = run_args(tiny_folder("llama"), tmp_path, *FEW, *every, methods=METHODS)
    kill(monkeypatch, args, "step", 1)
    (found,) = (tmp_path / "store" / "train").rglob(name)
    damage(found, "flip", tmp_path / "outside", random.Random(3))
    result = command(capsys, *args)
    assert result.code == 0, result.err
    wanted, got = artifacts(finished / "run"), artifacts(tmp_path / "run")
    # The checkpoint interval is among the settings, and no more.
    for names in (wanted, got):
        del names["spec.yaml"], names["results.json"]
    assert got == wanted


def test_a_damaged_result_is_told_even_when_quiet(
    finished: Path, tiny_folder: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    again = shutil.copytree(finished, tmp_path / "again")
    (path,) = (again / "store" / "train").rglob("adapter_model.safetensors")
    damage(path, "flip", tmp_path / "outside", random.Random(0))
    result = command(capsys, *run_args(tiny_folder("llama"), again, *FEW, methods=METHODS))
    assert result.code == 0
    assert "The stored train result" in result.out
    assert "adapter/adapter_model.safetensors" in " ".join(result.out.split())
    assert artifacts(again / "run") == artifacts(finished / "run")
