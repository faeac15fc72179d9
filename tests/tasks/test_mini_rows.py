"""The built-in rows: a pure function of the seed, without duplicates, and not to be guessed by their shape."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dasd_bench.registry import discover
from dasd_bench.tasks.base import Row, Task
from dasd_bench.tasks.loading import check_columns, examples_of, load_rows, rows_sha256
from dasd_bench.tasks.overlap import overlap

TASKS = Path(__file__).parents[2] / "tasks"
NAMES = ("mini_gsm", "mini_math", "mini_arc", "mini_mbpp")
TEXT = {"mini_gsm": "question", "mini_math": "problem", "mini_arc": "question", "mini_mbpp": "code"}


def task(name: str) -> Task:
    return discover().task(name).item


def both(name: str) -> dict[str, list[Row]]:
    return {split: load_rows(task(name), split).rows for split in ("train", "test")}


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_depend_on_the_process(name: str) -> None:
    """Another hash seed, without this package importable: the same bytes."""
    code = "import json, rows; print(json.dumps(rows.make_rows()))"
    command = [sys.executable, "-S", "-c", code]
    env = {"PYTHONHASHSEED": "7", "PATH": os.environ["PATH"]}
    made = json.loads(subprocess.run(command, cwd=TASKS / name, env=env, capture_output=True, check=True).stdout)
    assert {split: rows_sha256(rows) for split, rows in made.items()} == {
        split: rows_sha256(rows) for split, rows in both(name).items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_columns_sizes_and_levels(name: str) -> None:
    for split, rows in both(name).items():
        assert len(rows) >= 300, split
        check_columns(rows, task(name).data.columns, split)
        assert len({row["level"] for row in rows}) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_no_row_twice_and_none_in_both_splits(name: str) -> None:
    texts = [row[TEXT[name]] for rows in both(name).values() for row in rows]
    assert len(texts) == len(set(texts))


@pytest.mark.parametrize("name", ["mini_gsm", "mini_math", "mini_arc"])
def test_no_overlap_of_thirteen_words(name: str) -> None:
    one = task(name)
    train, test = (examples_of(one, load_rows(one, split), split) for split in ("train", "test"))
    found = overlap(train, test)
    assert (found.exact, found.grams) == ([], [])


@pytest.mark.parametrize("name", ["mini_gsm", "mini_math", "mini_arc"])
def test_references_are_right_and_each_others_are_mostly_wrong(name: str) -> None:
    one = task(name)
    examples = examples_of(one, load_rows(one, "test"), "test")
    assert all(one.grade(e, e.reference).correct for e in examples)
    wrong = sum(not one.grade(a, b.reference).correct for a, b in itertools.pairwise(examples))
    assert wrong > 0.8 * len(examples)


def test_mbpp_references_pass_their_asserts() -> None:
    for rows in both("mini_mbpp").values():
        for row in rows:
            space: dict[str, object] = {}
            exec(row["code"], space)
            for test in row["test_list"]:
                exec(test, space)


def share(rows: list[Row], pick: str) -> float:
    """Expected accuracy of always choosing the choice of that length rank, ties drawn."""
    right = 0.0
    for row in rows:
        lengths = [len(text) for text in row["choices"]["text"]]
        wanted = {"longest": max, "shortest": min}[pick](lengths)
        gold = row["choices"]["label"].index(row["answerKey"])
        right += (lengths[gold] == wanted) / lengths.count(wanted)
    return right / len(rows)


@pytest.mark.parametrize("split", ["train", "test"])
def test_arc_is_not_guessed_by_place_or_length(split: str) -> None:
    rows = both("mini_arc")[split]
    places = Counter(row["answerKey"] for row in rows)
    assert max(places.values()) < 0.30 * len(rows)
    assert 0.18 < share(rows, "longest") < 0.32
    assert 0.18 < share(rows, "shortest") < 0.32


def test_arc_is_not_guessed_by_how_often_a_choice_was_right_in_training() -> None:
    splits = both("mini_arc")
    right: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    for row in splits["train"]:
        for text, label in zip(row["choices"]["text"], row["choices"]["label"], strict=True):
            shown[text] += 1
            right[text] += label == row["answerKey"]
    for sign in (1, -1):
        hits = 0
        for row in splits["test"]:
            texts = row["choices"]["text"]
            best = max(texts, key=lambda text: sign * (right[text] + 1) / (shown[text] + 4))
            hits += row["choices"]["label"][texts.index(best)] == row["answerKey"]
        assert hits < 0.35 * len(splits["test"])


@pytest.mark.parametrize("name", NAMES)
def test_stock_lm_eval_loads_the_yaml_from_the_folder(name: str) -> None:
    """``--include_path tasks`` is enough: lm-eval finds the task and makes the same rows."""
    from lm_eval.tasks import TaskManager

    built = TaskManager(include_path=str(TASKS), include_defaults=False).load([name])["tasks"][name]
    assert [dict(doc) for doc in built.eval_docs][:5] == both(name)["test"][:5]
    prompts = [e.prompt for e in examples_of(task(name), load_rows(task(name), "test", limit=5), "test")]
    assert [built.doc_to_text(doc) for doc in list(built.eval_docs)[:5]] == prompts
