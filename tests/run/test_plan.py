"""The plan and the runner walk one stage graph: what was planned is what happens, on random specifications."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from dasd_bench.api import RunOptions, RunSpec, make_spec, plan, run

METHODS = ["sft", "self-distill", "dasd", "dasd+rule=confidence-gate+tau=0.5", "low-ppl", "profit", "dft"]


def random_spec(rng: random.Random, model: Path) -> RunSpec:
    """A small run of one to three methods, one or two seeds, one or two tasks."""
    return make_spec(
        model=str(model),
        methods=rng.sample(METHODS, rng.randint(1, 3)),
        tasks=rng.sample(["mini_gsm", "mini_arc", "mini_math"], rng.randint(1, 2)),
        seeds=rng.choice([[0], [1], [0, 1]]),
        train_limit=2,
        limit=2,
        num_fewshot=0,
        max_new_tokens=4,
        chat_template=rng.choice(["auto", "auto", "plain"]),
        settings=["training.epochs=1", "training.lora_rank=2", "engine.max_num_seqs=2"],
    )


def test_every_stage_is_planned_with_the_state_it_turns_out_to_have(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Four random runs over one store, so that later ones find some stages there and some not."""
    rng = random.Random(20261126)
    seen = set()
    for number in range(4):
        spec = random_spec(rng, tiny_folder("llama"))
        options = RunOptions(output=tmp_path / f"run{number}", store=tmp_path / "store")
        planned = plan(spec, options)
        results = run(spec, options)
        assert [(row.stage, row.arm, row.seed) for row in planned] == [
            (stage.name, stage.arm, stage.seed) for stage in results.stages
        ]
        assert [row.state != "to do" for row in planned] == [stage.reused for stage in results.stages]
        assert all(row.state == "in store" for row in plan(spec, options))
        seen |= {row.state for row in planned}
    assert seen == {"to do", "shared", "in store"}


def test_a_plan_computes_nothing(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    spec = random_spec(random.Random(1), tiny_folder("llama"))
    assert plan(spec, RunOptions(output=tmp_path / "run", store=tmp_path / "store"))
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "store").exists()


def test_with_vllm_all_arms_train_before_one_engine_evaluates(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    spec = make_spec(
        model=str(tiny_folder("llama")),
        methods=["sft", "low-ppl"],
        tasks=["mini_gsm"],
        seeds=[0, 1],
        train_limit=2,
        limit=2,
        settings=["engine.backend=vllm"],
    )
    kinds = [row.kind for row in plan(spec, RunOptions(output=tmp_path / "run", store=tmp_path / "store"))]
    last_training = max(place for place, kind in enumerate(kinds) if kind == "train")
    assert kinds.count("train") == 4
    assert min(place for place, kind in enumerate(kinds) if kind == "evaluate") > last_training


@pytest.mark.parametrize("kind", ["targets", "scores", "train", "evaluate", "nll"])
def test_a_stage_that_is_lost_is_planned_again(
    kind: str, tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    import shutil

    folder = tmp_path_factory.getbasetemp() / "lost"
    spec = random_spec(random.Random(7), tiny_folder("llama"))
    options = RunOptions(output=folder / "run", store=folder / "store")
    if not folder.exists():
        run(spec, options)
    shutil.rmtree(folder / "store" / kind)
    lost = {row.kind for row in plan(spec, options) if row.state != "in store"}
    assert lost == {kind}
    assert run(spec, options).status == "finished"
