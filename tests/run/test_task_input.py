"""Tasks and their data through the command line: overlap told before training, faulty YAMLs, shots that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.run.helpers import command, run_args

TASK = """
from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.families import NumberTask

class Sums(NumberTask):
    name = "sums"
    summary = "sums"
    data = DataSource("sums", ("question", "answer"))
    yaml = "sums.yaml"
"""
YAML = """
task: sums
training_split: train
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
num_fewshot: SHOTS
generation_kwargs: {until: ["Q:"], max_gen_toks: 10}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""


def sums(folder: Path, yaml: str, **splits: list[str]) -> list[str]:
    """Options that add the task and its rows."""
    (folder / "plugins" / "sums").mkdir(parents=True)
    (folder / "plugins" / "sums" / "task.py").write_text(TASK)
    (folder / "plugins" / "sums" / "sums.yaml").write_text(yaml)
    (folder / "data" / "sums").mkdir(parents=True)
    for split, questions in splits.items():
        rows = [json.dumps({"question": text, "answer": "#### 3"}) for text in questions]
        (folder / "data" / "sums" / f"{split}.jsonl").write_text("\n".join(rows))
    return ["--plugins", str(folder / "plugins"), "--data-dir", str(folder / "data")]


def with_sums(args: list[str]) -> list[str]:
    return ["sums" if arg == "mini_gsm,mini_arc" else arg for arg in args]


def test_overlap_is_told_before_training_and_kept(tiny_folder, tmp_path: Path, capsys) -> None:
    shared = "the tall man who sold apples at the old market had one two three of them left"
    more = sums(
        tmp_path,
        YAML.replace("SHOTS", "0"),
        train=["What is 1+2?", f"Ann says {shared}."],
        test=["what is 1+2", f"Bob heard that {shared}!", "What is 2+1?"],
    )
    result = command(capsys, *with_sums(run_args(tiny_folder("llama"), tmp_path, *more, methods="sft")))
    assert result.code == 0, result.err
    words = "sums: of 3 test rows, 1 are exact duplicates of training rows and 1 share a 13-gram"
    told = result.out + result.err
    assert words in told
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["tasks"][0]["overlap"] == {
        "test_rows": 3,
        "exact": 1,
        "13_gram": 1,
        "first": [["sums/test/0", "sums/train/0"], ["sums/test/1", "sums/train/1"]],
    }


def test_no_overlap_is_told_too(tiny_folder, tmp_path: Path, capsys) -> None:
    args = run_args(tiny_folder("llama"), tmp_path, "--dry-run", methods="sft")
    assert "no train/test overlap (exact or 13-gram): mini_gsm, mini_arc" in (command(capsys, *args).out)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("doc_to_text:", "doc_to_txt:", "unknown key 'doc_to_txt'"), ("  - {metric", "  - {{metric", "line ")],
)
def test_a_faulty_yaml_names_file_and_key(
    tiny_folder, tmp_path: Path, capsys, old: str, new: str, message: str
) -> None:
    yaml = YAML.replace("SHOTS", "0").replace(old, new)
    more = sums(tmp_path, yaml, train=["What is 1+2?"], test=["What is 3?"])
    result = command(capsys, *with_sums(run_args(tiny_folder("llama"), tmp_path, *more, methods="sft")))
    assert result.code == 1
    assert "sums.yaml" in result.err
    assert message in result.err
    assert "Traceback" not in result.err


def test_shots_that_do_not_fit_and_shots_that_give_answers_away(tiny_folder, tmp_path: Path, capsys) -> None:
    train = [f"Question {i}: what is the number that comes after {i} and before {i + 2} in order?" for i in range(200)]
    test = ["What is the smallest number?"]

    def args(folder: Path) -> list[str]:
        own = with_sums(run_args(tiny_folder("llama"), folder, methods="sft"))
        place = own.index("--num-fewshot")
        return own[:place] + own[place + 2 :]

    long, same = tmp_path / "long", tmp_path / "same"
    result = command(capsys, *args(long), *sums(long, YAML.replace("SHOTS", "40"), train=train, test=test))
    assert result.code != 0
    assert "shots fit (--num-fewshot " in result.out + result.err
    result = command(
        capsys, *args(same), "--dry-run", *sums(same, YAML.replace("SHOTS", "2"), train=train, test=train[:6])
    )
    assert result.code != 0
    assert "6 scored rows are also in the few-shot split 'train'" in result.out + result.err


def test_rows_with_other_line_separators_are_read_back(tiny_folder, tmp_path: Path, capsys) -> None:
    """U+2028 and its like end no line of JSON; the second run reads what the first one stored."""
    odd = ["What\u2028is 1+2?", "What\u2029is\x85 2+1?"]
    more = sums(tmp_path, YAML.replace("SHOTS", "1"), train=["What is\u2028 2+2?", "What is 1+1?"], test=odd)
    args = with_sums(run_args(tiny_folder("llama"), tmp_path, *more, "--num-fewshot", "1", methods="sft"))
    for _ in range(2):
        result = command(capsys, *args)
        assert result.code == 0, result.err
    assert "Stages: 0 computed" in result.out
    text = (tmp_path / "run" / "base" / "eval" / "sums" / "samples.jsonl").read_text(encoding="utf-8")
    assert all(mark in text for mark in "\u2028\u2029\x85")
    (tmp_path / "store" / "nll").rename(tmp_path / "old-nll")
    assert command(capsys, *args).code == 0
