"""Targets of one method with the weights of another, and targets from a file, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dasd_bench.config.spec import RunSpec, arms, split_arm
from dasd_bench.errors import UsageError
from dasd_bench.registry import Registry, discover
from dasd_bench.store.store import load_ragged
from tests.run.helpers import command, documents, run_args

FEW = ("--train-limit", "3", "--limit", "1")
ADAPTER = "adapter/adapter_model.safetensors"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("dasd*sft", "sft gives no weights of its own: write dasd alone"),
        ("low-ppl*profit", "low-ppl trains on the gold answers, as profit does alone: write profit"),
        ("self-distill*dasd", "the weights of dasd belong to targets that it makes itself"),
        ("dasd*profit*dft", "give the targets of one method the weights of one other"),
        ("dasd*nothing", "Unknown method 'nothing'"),
        ("dasd+training.lr=1*profit+training.lr=2", "training.lr is there twice; keep one"),
        ("dasd*profit+threshold=1", "Unknown option of method profit 'threshold'"),
    ],
)
def test_what_means_nothing_is_refused(label: str, told: str, registry: Registry) -> None:
    with pytest.raises(UsageError) as error:
        arms(RunSpec(methods=(label,)), registry)
    assert told in str(error.value)


def test_each_method_takes_its_own_options(registry: Registry) -> None:
    spec = RunSpec(
        methods=("dasd+rule=confidence-gate+tau=0.7*profit+tau=0.3+training.lr=1e-3", "dasd"),
        method_options={"profit": {"keep": "none"}, "method": {"temperature": "0.5"}},
        budget="card",
    )
    one, plain = arms(spec, registry)
    assert (one.method.tau, one.method.temperature, one.method.keep) == (0.7, 0.5, "end")  # type: ignore[attr-defined]
    assert (one.weighing.method.tau, one.weighing.method.keep) == (0.3, "none")  # type: ignore[attr-defined]
    assert (one.training.lr, one.training.batch_size) == (1e-3, 32)
    assert (one.name, one.options["tau"], one.options["profit.tau"]) == ("dasd*profit", 0.7, 0.3)
    assert (plain.second, plain.weighing.method, plain.name) == (None, plain.method, "dasd")
    assert split_arm("external+file=a*1.jsonl*dft") == ["external+file=a*1.jsonl", "dft"]
    assert "*" not in one.folder


def test_targets_of_one_and_weights_of_another(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    label = "self-distill*low-ppl+tau=60"
    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path, *FEW, methods=f"self-distill,{label}"))
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "run" / "results.json").read_text())["arms"]
    plain, both = (tmp_path / "run" / "arms" / (arm["folder"] or arm["method"]) / "seed0" for arm in found)
    assert [arm["method"] for arm in found] == ["self-distill", "self-distill*low-ppl"]
    assert (plain / "targets.jsonl").read_bytes() == (both / "targets.jsonl").read_bytes()
    arrays, _ = load_ragged(both / "tokens.safetensors")
    for logp, marks, weights in zip(arrays["logp"], arrays["marks"], arrays["weights"], strict=True):
        assert weights.tolist() == ((-logp <= np.log(60)) | (marks == 2)).astype(float).tolist()
    assert (plain / ADAPTER).read_bytes() != (both / ADAPTER).read_bytes()


def test_exported_targets_train_the_same_adapter(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    """A round trip through a file: static weights, targets that were generated, gold ones, in the same order."""
    model = tiny_folder("llama")
    first = command(capsys, *run_args(model, tmp_path, *FEW, methods="low-ppl+tau=60"))
    assert first.code == 0, first.err
    out = tmp_path / "published"
    refused = command(capsys, "export", str(tmp_path / "run"), "--to", "jsonl", "--output", str(out / "one.jsonl"))
    assert (refused.code, refused.err.count("must be a folder")) == (2, 1)
    exported = command(capsys, "export", str(tmp_path / "run"), "--to", "jsonl", "--output", str(out))
    assert exported.code == 0, exported.err
    (file,) = out.iterdir()
    rows = documents(file)
    assert set(rows[0]) == {"id", "messages", "target", "token_ids", "weights"}
    args = run_args(model, tmp_path, *FEW, "--targets", str(file))
    at = args.index("--method")
    del args[at : at + 2]
    args[args.index("--output") + 1] = str(tmp_path / "again")
    again = command(capsys, *args)
    assert again.code == 0, again.err
    (arm,) = (tmp_path / "again" / "arms").iterdir()
    before = tmp_path / "run" / "arms" / "low-ppl+tau=60" / "seed0"
    assert (arm / "seed0" / ADAPTER).read_bytes() == (before / ADAPTER).read_bytes()
    args[args.index("--targets") + 1] = "none.jsonl"
    args[args.index("--output") + 1] = str(tmp_path / "third")
    missing = command(capsys, *args)
    assert missing.code == 2
    assert "there is no file none.jsonl" in missing.err
