"""A run on one's own rows: what is trained on is the file, and the tokens are the chat template's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dasd_bench.results.runs import load_run
from tests.run.helpers import command, run_args

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 2 plus 3?"},
    {"role": "assistant", "content": "5"},
    {"role": "user", "content": "And doubled?"},
    {"role": "assistant", "content": "10"},
]


def test_trains_on_the_file_and_evaluates_the_tasks(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.jsonl"
    rows = [{"messages": CHAT}, {"prompt": "What is 4 plus 4?", "completion": "8", "answer": "8"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = tiny_folder("llama")
    result = command(capsys, *run_args(model, tmp_path, "--train-file", str(file), methods="sft"))
    assert result.code == 0, result.err
    assert "mine: 2 training rows, 0 test rows from mine.jsonl" in result.out
    results = load_run(tmp_path / "run")
    assert [(task.name, task.n_train) for task in results.tasks] == [("mini_gsm", 0), ("mini_arc", 0)]
    lines = (tmp_path / "run" / "arms" / "sft" / "seed0" / "targets.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["mine/train/0", "mine/train/1"]
    # An edited file is other data: the targets are made anew, and the run directory belongs to them.
    file.write_text(file.read_text().replace('"8"', '"eight"'))
    again = command(capsys, *run_args(model, tmp_path, "--train-file", str(file), "--dry-run", methods="sft"))
    states = {line.split()[0]: line for line in again.out.splitlines() if " seed 0 " in line}
    assert "to do" in states["targets"]
    assert "to do" in states["train"]


def test_prompts_are_the_templates_own(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from dasd_bench.api import make_spec
    from dasd_bench.config.resolve import registry_of
    from dasd_bench.console import Console
    from dasd_bench.run.options import RunOptions
    from dasd_bench.run.prepare import prepare
    from dasd_bench.run.prompts import Prompts

    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"messages": CHAT}))
    model = tiny_folder("qwen3")
    spec = make_spec(model=str(model), methods=["sft"], tasks=["mini_gsm"], train_files=[str(file)], limit=2)
    options = RunOptions(output=tmp_path / "run", store=tmp_path / "store")
    prepared = prepare(spec, registry_of(spec), options, Console(quiet=True))
    (example,) = next(one.train for one in prepared.data if one.train)
    tokenizer = AutoTokenizer.from_pretrained(model)
    text = tokenizer.apply_chat_template(CHAT[:-1], tokenize=False, add_generation_prompt=True, enable_thinking=False)
    expected = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert Prompts(prepared.context).ids(example) == expected


def test_validation_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"messages": CHAT}))
    result = command(capsys, "run", "--train-file", str(file), "--tasks", "mini_gsm", "--validation", "2", "--dry-run")
    assert result.code == 2
    assert "--train-file cannot be scored" in result.err
