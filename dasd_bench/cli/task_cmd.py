"""``dasd-bench task new NAME``: writes a task folder that works as it is, with rows and a test, to be edited."""

from __future__ import annotations

import re
from pathlib import Path

import click

from dasd_bench.console import Console
from dasd_bench.errors import UsageError
from dasd_bench.files.jsonl import dump_rows
from dasd_bench.files.shipped import named_tasks
from dasd_bench.store.atomic import write_text

TASK = '''"""{name}: describe what the task asks and where its rows come from."""

from dasd_bench.api import DataSource, {base}


class {cls}({base}):
    """{about}"""

    name = "{name}"
    summary = "One line for `dasd-bench list tasks`."
    version = 1  # raise it when prompt, rows or scoring change: stored scores are then not reused
    data = DataSource("{name}", {columns})
    yaml = "{name}.yaml"
{settings}
'''

COMMON = """# Stock lm-eval runs this file too: lm_eval --include_path FOLDER --tasks {name}
task: {name}
custom_dataset: null
output_type: {output}
training_split: train
fewshot_split: train
test_split: test
num_fewshot: 0
"""

NUMBER = """doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{answer}}"
generation_kwargs:
  until: ["Question:"]
  do_sample: false
filter_list:
  - name: flexible-extract
    filter:
      - function: regex
        group_select: -1
        regex_pattern: "(-?[0-9][0-9,]*)"
      - function: take_first
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    regexes_to_ignore: [",", "(?s).*#### "]
"""

CHOICE = """doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{choices.label.index(answerKey)}}"
doc_to_choice: "{{choices.text}}"
metric_list:
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
"""

TEST = '''"""The task's rows can be read, and its grader accepts every reference: pytest {folder}"""

from pathlib import Path

import pytest

from dasd_bench.registry import discover
from dasd_bench.tasks.loading import examples_of, load_rows

HERE = Path(__file__).parent
TASK = discover((HERE.parent,)).task("{name}").item


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_reference_is_right(split: str) -> None:
    examples = examples_of(TASK, load_rows(TASK, split, data_dir=HERE / "data"), split)
    verdicts = TASK.grade_all(examples, [example.reference for example in examples])
    assert all(verdict.correct for verdict in verdicts)


def test_another_answer_is_wrong() -> None:
    first, second, *_ = examples_of(TASK, load_rows(TASK, "test", data_dir=HERE / "data"), "test")
    assert not TASK.grade(first, second.reference).correct
'''


def _sums(first: int, count: int) -> list[dict[str, object]]:
    pairs = [(first + i, 2 * i + 3) for i in range(count)]
    return [{"question": f"What is {a} plus {b}?", "answer": f"{a} + {b} = {a + b}\n#### {a + b}"} for a, b in pairs]


def _choices(first: int, count: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number in range(first, first + count):
        texts = [str(number + step) for step in (2, 1, 3)]
        choices = {"text": texts, "label": ["A", "B", "C"]}
        rows.append({"question": f"Which number follows {number}?", "choices": choices, "answerKey": "B"})
    return rows


@click.group("task")
def task_group() -> None:
    """Write a template for a new task."""


@task_group.command("new")
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("my_tasks"), show_default=True)
@click.option(
    "--kind",
    type=click.Choice(("number", "choice")),
    default="number",
    show_default=True,
    help="number: an answer is written and ends in a number; choice: the likeliest choice counts.",
)
def new_task(name: str, folder: Path, kind: str) -> None:
    """Write FOLDER/NAME: a working task with its YAML, rows and a test; use it with --plugins FOLDER."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(
            f"'{name}' is not a valid task name; use lower-case letters, digits and underscores, starting with a "
            "letter."
        )
    if name in {task.name for task in named_tasks()}:
        raise UsageError(f"There is a task '{name}' already; choose another name.")
    place = folder / name
    if place.exists():
        raise UsageError(f"{place} already exists; choose another name or edit it.")
    for path, text in task_files(name, kind, place).items():
        write_text(place / path, text)
    console = Console()
    console.result(f"Wrote {place} (task.py, {name}.yaml, data/{name}/train.jsonl and test.jsonl, test_{name}.py).")
    console.result(f"Test it: pytest {place}")
    console.result(f"Run it: dasd-bench run --method sft --tasks {name} --plugins {folder} --data-dir {place / 'data'}")


def task_files(name: str, kind: str, place: Path) -> dict[str, str]:
    """The files of a new task by their path in its folder."""
    cls = "".join(part.capitalize() for part in name.split("_"))
    number = kind == "number"
    base = "NumberTask" if number else "ChoiceTask"
    about = (
        "Columns question and answer; the answer ends in a line `#### n`."
        if number
        else "Columns question, choices (text and label, two lists) and answerKey, one of the labels."
    )
    columns = ("question", "answer") if number else ("question", "choices", "answerKey")
    settings = (
        '    filter = "flexible-extract"\n    max_new_tokens = 64\n    train_new_tokens = 64'
        if number
        else '    filter = "none"\n    metric = "acc_norm"'
    )
    listed = "(" + ", ".join(f'"{column}"' for column in columns) + ")"
    common = COMMON.format(name=name, output="generate_until" if number else "multiple_choice")
    make = _sums if number else _choices
    return {
        "task.py": TASK.format(name=name, cls=cls, base=base, about=about, columns=listed, settings=settings),
        f"{name}.yaml": common + (NUMBER if number else CHOICE),
        f"data/{name}/train.jsonl": dump_rows(make(1, 8)).decode(),
        f"data/{name}/test.jsonl": dump_rows(make(101, 8)).decode(),
        f"test_{name}.py": TEST.format(name=name, folder=place),
    }
