"""The warm-up on tiny models: a stage like any other, and the base of everything after it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dasd_bench.api import RunOptions, RunSpec, make_spec, plan, run
from dasd_bench.config.spec import parse_set, read_file, resolve, to_yaml
from dasd_bench.console import Console
from dasd_bench.errors import UsageError
from dasd_bench.models.load import load_model
from dasd_bench.registry import discover
from dasd_bench.results.directory import RunDirectory
from dasd_bench.run.data import load_data, warmup_examples
from dasd_bench.run.validation import load_validation

WARM = ["warmup.tasks=mini_gsm", "warmup.rows=470", "warmup.style=plain", "warmup.epochs=0.1", "warmup.lr=0.01"]


def spec_of(model: Path, *settings: str, **options: object) -> RunSpec:
    small = {"methods": ["sft"], "tasks": ["mini_gsm"], "train_limit": 3, "limit": 3, "max_new_tokens": 4}
    return make_spec(
        model=str(model),
        settings=["training.epochs=1", "training.lora_rank=2", "engine.max_num_seqs=2", *settings],
        **{**small, "num_fewshot": 0, **options},
    )


@pytest.mark.parametrize("rank", [0, 2])
def test_all_arms_start_from_the_warmed_model(rank: int, tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny_folder("llama")
    options = RunOptions(output=tmp_path / "warm", store=tmp_path / "store")
    spec = spec_of(folder, *WARM, f"warmup.lora_rank={rank}")
    planned = plan(spec, options)
    results = run(spec, options)
    assert (planned[0].stage, planned[0].arm) == ("warm-up", "base")
    assert [(row.stage, row.arm, row.seed) for row in planned] == [(s.name, s.arm, s.seed) for s in results.stages]
    assert all(row.state == "in store" for row in plan(spec, options))

    manifest = json.loads(RunDirectory(tmp_path / "warm").manifest.read_text(encoding="utf-8"))
    warmup = manifest["warmup"]
    assert (warmup["examples"], warmup["style"], warmup["stats"]["steps"]) == (470, "plain", 3)
    assert warmup["source_sha256"] != manifest["model"]["sha256"] == results.conditions["model weights"]

    # The base row is the warmed model's: a run on its folder without a warm-up measures the very same numbers.
    (made,) = (tmp_path / "store" / "warmup").iterdir()
    assert not (made / "adapter").exists()
    by_hand = run(spec_of(made / "model", methods=["base"]), RunOptions(tmp_path / "hand", tmp_path / "store"))
    cold = run(spec_of(folder, methods=["base"]), RunOptions(tmp_path / "cold", tmp_path / "store"))
    nll, hand, before = (one.base["mini_gsm"].reference_nll for one in (results, by_hand, cold))
    assert nll is not None
    assert hand is not None
    assert before is not None
    assert nll.per_item == hand.per_item
    assert nll.per_item != before.per_item
    # Targets are scored under it, too.
    stats = results.arms[0].seeds[0].target_stats
    assert stats is not None
    assert stats.mean_nll > 0
    old, new = (load_model(one).get_input_embeddings().weight for one in (folder, made / "model"))
    assert torch.equal(old, new) == (rank > 0)


def test_runs_and_seeds_share_one_warm_up(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder, store = tiny_folder("llama"), tmp_path / "store"
    run(spec_of(folder, *WARM, methods=["base"]), RunOptions(tmp_path / "a", store))
    results = run(spec_of(folder, *WARM, seeds=[3]), RunOptions(tmp_path / "b", store))
    assert [stage.reused for stage in results.stages if stage.name == "warm-up"] == [True]
    other = plan(spec_of(folder, *WARM, "warmup.seed=1"), RunOptions(tmp_path / "c", store))
    assert other[0].state == "to do"


def test_warm_up_rows_are_neither_trained_on_nor_validated_on(tiny_folder: Callable[[str], Path]) -> None:
    registry, console = discover(), Console(quiet=True)
    spec = spec_of(tiny_folder("llama"), "warmup.tasks=mini_gsm,mini_math", "warmup.rows=300", train_limit=0)
    warm = {example.prompt for example in warmup_examples(spec, registry)[0]}
    assert len(warm) == 600
    (data,) = load_data(spec, registry, console)
    assert len(data.train) == 180
    assert warm.isdisjoint(example.prompt for example in (*data.train, *data.test))
    held = spec_of(
        tiny_folder("llama"), "warmup.tasks=mini_gsm", "warmup.rows=300", tasks=["mini_gsm", "mini_arc"], validation=40
    )
    for one in load_validation(held, registry, console):
        assert len(one.test) == 40
        assert warm.isdisjoint(example.prompt for example in (*one.train, *one.test))


def test_references_are_in_the_style_asked_for(tiny_folder: Callable[[str], Path]) -> None:
    spec = spec_of(
        tiny_folder("llama"), *WARM, reference_style="ledger", tasks=["mini_gsm", "mini_arc"], train_tasks=["mini_gsm"]
    )
    gsm, arc = load_data(spec, discover(), Console(quiet=True))
    assert all(example.reference.startswith("| ") for example in (*gsm.train, *gsm.test))
    # mini_arc has no such style, and is not trained on: its references stay as they are.
    assert not any("|" in example.reference for example in arc.test)
    assert not any("|" in example.reference for example in warmup_examples(spec, discover())[0])


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        (["warmup.tasks=mini_gsm", "warmup.rows=480"], {}, "480 training rows, so none would be left"),
        (
            ["warmup.tasks=mini_gsm", "warmup.style=rhyme"],
            {},
            "style 'rhyme' of the tasks mini_gsm: choose from chatty, lecture, ledger",
        ),
        (
            [],
            {"reference_style": "ledger", "tasks": ["mini_arc"]},
            "style 'ledger' of the tasks mini_arc: choose",
        ),
        (["warmup.tasks=nosuch"], {}, "nosuch"),
        (["warmup.tasks=hellaswag"], {}, "has no train split"),
    ],
)
def test_what_cannot_be_warmed_up_is_said_before_any_work(
    settings: list[str], options: dict[str, object], message: str, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        plan(spec_of(tiny_folder("llama"), *settings, **options), RunOptions(tmp_path / "run", tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_a_saved_specification_keeps_the_warm_up_and_leaves_it_out_where_there_is_none(tmp_path: Path) -> None:
    spec = resolve(parse_set([*WARM, "training.lr=1e-3"]), {"reference_style": "chatty"})
    file = tmp_path / "spec.yaml"
    file.write_text(to_yaml(spec), encoding="utf-8")
    assert resolve(read_file(file)) == spec
    assert "warmup:\n" not in to_yaml(resolve({}))
    assert "reference_style" not in to_yaml(resolve({}))
