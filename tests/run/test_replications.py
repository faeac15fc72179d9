"""The shipped replications on tiny stand-ins of their architectures: every stage, with a few rows of each task."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.api import RunOptions, plan, run
from dasd_bench.reporting.replication import (
    Replication,
    check,
    check_table,
    deviations,
    find_replication,
    read_replication,
)

STAND_INS = {"stm-gemma2-2b": "gemma2", "stm-llama3-8b": "llama", "sdft-llama2-7b": "llama"}


def code_row(n: int) -> dict[str, Any]:
    return {
        "task_id": n,
        "text": f"Write a function to add {n} to a number.",
        "code": f"def add_{n}(a):\n    return a + {n}",
        "test_list": [f"assert add_{n}({k}) == {n + k}" for k in range(3)],
        "test_setup_code": "",
        "challenge_test_list": [],
    }


def human_row(n: int) -> dict[str, Any]:
    return {
        "task_id": f"HumanEval/{n}",
        "prompt": f'def twice_{n}(a):\n    """Give a twice."""\n',
        "canonical_solution": "    return 2 * a\n",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n",
        "entry_point": f"twice_{n}",
    }


ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "mbpp": code_row,
    "gsm8k": lambda n: {
        "question": f"Sam has {n} pens and gets 2. How many?",
        "answer": f"{n}+2={n + 2}\n#### {n + 2}",
    },
    "arc_challenge": lambda n: {
        "id": f"Q{n}",
        "question": f"Which is the number {n}?",
        "choices": {"text": [str(n), str(n + 1), "ten", "none"], "label": ["A", "B", "C", "D"]},
        "answerKey": "A",
    },
    "humaneval": human_row,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other rows in each split, so that nothing is trained on and tested."""
    folder = tmp_path_factory.mktemp("data")
    for name, row in ROWS.items():
        for place, split in enumerate(("train", "validation", "prompt", "test")):
            path = folder / name / f"{split}.jsonl"
            path.parent.mkdir(exist_ok=True)
            rows = [row(10 * place + n) for n in range(3)]
            path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return folder


def small(replication: Replication, model: Path, data: Path) -> Replication:
    """The replication with another model and with little of everything; its methods, tasks and training stay."""
    spec = replication.spec
    training = replace(spec.training, epochs=1.0)
    engine = replace(spec.engine, max_num_seqs=4)
    spec = replace(spec, model=str(model), train_limit=2, limit=2, seeds=(0,), max_new_tokens=8, data_dir=str(data))
    return replace(replication, spec=replace(spec, confirm_run_unsafe_code=True, training=training, engine=engine))


def with_context(model: Path, folder: Path, length: int) -> Path:
    """A copy of a model whose context has room for HumanEval's budget of 1024 tokens."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["max_position_embeddings"] = length
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", STAND_INS)
def test_a_replication_goes_through_every_stage(
    name: str, data: Path, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    replication = read_replication(find_replication(name))
    tiny = small(replication, with_context(tiny_folder(STAND_INS[name]), tmp_path / "model", 2048), data)
    options = RunOptions(output=tmp_path / "run", store=tmp_path / "store")
    planned = plan(tiny.spec, options)
    results = run(tiny.spec, options)
    assert results.status == "finished"
    assert [(row.stage, row.arm) for row in planned] == [(stage.name, stage.arm) for stage in results.stages]
    assert {arm.label for arm in results.arms} == set(replication.spec.methods)
    assert deviations(tiny.spec, tiny) == []
    assert {one.partition(" ")[0] for one in deviations(tiny.spec, replication)} >= {"model", "seeds", "limit"}
    # A random model shows no effect; every claim is tested all the same, on both of its rows.
    findings = check(results, replication)
    assert all(one.paired is not None and one.paired.n == 2 for one in findings)
    assert len(check_table(replication, findings).rows) == len(replication.claims)
