"""``--evaluate-adapter``: an adapter from elsewhere is scored as the run that trained it scores it, or is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from dasd_bench.results.runs import load_run
from tests.run.helpers import command, run_args


@pytest.fixture(scope="module")
def trained(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``sft`` on the tiny llama."""
    from dasd_bench.cli.main import run_cli

    folder = tmp_path_factory.mktemp("trained")
    assert run_cli(run_args(tiny_folder("llama"), folder, methods="sft")) == 0
    return folder / "run"


def adapter_of(run: Path) -> Path:
    return run / "arms" / "sft" / "seed0" / "adapter"


def evaluate_args(model: Path, folder: Path, adapter: str) -> list[str]:
    args = run_args(model, folder, "--evaluate-adapter", adapter)
    where = args.index("--method")
    return args[:where] + args[where + 2 :]


def test_scores_are_those_of_the_run_that_trained_it(
    trained: Path, tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(adapter_of(trained), tmp_path / "mine")
    # A store of its own: nothing can be taken from the run that trained it.
    result = command(capsys, *evaluate_args(tiny_folder("llama"), tmp_path, str(tmp_path / "mine")))
    assert result.code == 0, result.err
    (row,) = load_run(tmp_path / "run").arms
    (own,) = load_run(trained).arms
    assert row.label == "mine"
    assert row.adapter is not None
    assert (row.seeds[0].target_stats, row.seeds[0].train_stats) == (None, None)
    for task, score in own.seeds[0].scores.items():
        assert row.seeds[0].scores[task].values() == score.values()
        assert row.seeds[0].scores[task].reference_nll == score.reference_nll
    table = command(capsys, "table", str(tmp_path / "run"), "--notes")
    assert "mine" in table.out
    assert "trained elsewhere (LoRA r=2" in table.out
    for verb in (["report", str(tmp_path / "run")], ["samples", str(tmp_path / "run"), "--method", "mine"]):
        assert command(capsys, *verb).code == 0, verb
    # Under another name and elsewhere its bytes are the same, so that everything is in the store.
    (tmp_path / "mine").rename(tmp_path / "two")
    args = evaluate_args(tiny_folder("llama"), tmp_path, f"named={tmp_path / 'two'}")
    args[args.index("--output") + 1] = str(tmp_path / "again")
    result = command(capsys, *args)
    assert result.code == 0, result.err
    assert "0 computed" in result.out
    assert [arm.label for arm in load_run(tmp_path / "again").arms] == ["named"]


def test_beside_methods(
    trained: Path, tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = run_args(
        tiny_folder("llama"), tmp_path, "--evaluate-adapter", f"theirs={adapter_of(trained)}", "--seeds", "0,1",
        methods="sft",
    )  # fmt: skip
    result = command(capsys, *args)
    assert result.code == 0, result.err
    results = load_run(tmp_path / "run")
    assert results.status == "finished"
    assert [(arm.label, len(arm.seeds)) for arm in results.arms] == [("sft", 2), ("theirs", 1)]
    assert "partial" not in result.out


def edit_config(adapter: Path, **fields: object) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def other_rank(adapter: Path) -> None:
    edit_config(adapter, r=4)


def other_targets(adapter: Path) -> None:
    edit_config(adapter, target_modules=["q_proj"])


def more_targets(adapter: Path) -> None:
    edit_config(adapter, target_modules=["q_proj", "v_proj", "lm_head"])


def whole_modules(adapter: Path) -> None:
    edit_config(adapter, modules_to_save=["lm_head"])


def other_kind(adapter: Path) -> None:
    edit_config(adapter, peft_type="IA3")


def one_tensor_less(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors.pop(min(tensors))
    save_file(tensors, adapter / "adapter_model.safetensors")


def another_layer(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {name.replace("layers.1.", "layers.9."): one for name, one in tensors.items()},
        adapter / "adapter_model.safetensors",
    )


def another_width(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = next(name for name in sorted(tensors) if "lora_A" in name)
    tensors[name] = tensors[name][:, :-1].contiguous()
    save_file(tensors, adapter / "adapter_model.safetensors")


def no_weights(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_rank, "where r and target_modules give [4,"),
        (other_targets, "which target_modules does not name"),
        (more_targets, "for which it has no weights"),
        (whole_modules, "merge it into its base"),
        (other_kind, "is of the type IA3; only LoRA"),
        (one_tensor_less, "for which it has no weights"),
        (another_layer, "made for another model"),
        (another_width, "has width"),
        (no_weights, "has no adapter_model.safetensors"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    spoil: Callable[[Path], None],
    words: str,
    trained: Path,
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Adapters in a run directory are hard links into the store.
    shutil.copytree(adapter_of(trained), tmp_path / "mine")
    spoil(tmp_path / "mine")
    result = command(capsys, *evaluate_args(tiny_folder("llama"), tmp_path, str(tmp_path / "mine")))
    assert result.code == 1
    assert words in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_names(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base").mkdir()
    result = command(capsys, *evaluate_args(tiny_folder("llama"), tmp_path, str(tmp_path / "base")))
    assert result.code == 2
    assert "there is a row 'base' already; write NAME=" in result.err
    result = command(capsys, *evaluate_args(tiny_folder("llama"), tmp_path, str(tmp_path / "none")))
    assert result.code == 2
    assert "there is no folder" in result.err


def test_an_adapter_as_model_says_what_to_do(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = command(capsys, "run", "--model", str(adapter_of(trained)), "--tasks", "mini_gsm", "--dry-run")
    assert result.code == 1
    assert "--evaluate-adapter" in result.err
