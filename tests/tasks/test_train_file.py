"""``--train-file``: one's own rows in the forms that trainers read, and the errors with file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.cli.main import run_cli
from dasd_bench.errors import DataError
from dasd_bench.tasks.loading import examples_of, load_rows
from dasd_bench.tasks.train_file import TrainFile, file_task_name
from dasd_bench.types import Example, Message


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[Example]:
    task = TrainFile(path, file_task_name(path, ()))
    return examples_of(task, load_rows(task, "train"), "train")


USER = {"role": "user", "content": "What is 2 plus 3?"}
SYSTEM = {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "5"}


def test_all_forms_of_one_row_are_one_example(tmp_path: Path) -> None:
    forms = write(
        tmp_path / "rows.jsonl",
        {"prompt": USER["content"], "completion": "5"},
        {"prompt": [USER], "completion": [ANSWER]},
        {"messages": [USER, ANSWER]},
        {"prompt": [USER], "completion": "5", "other": "kept out"},
    )
    examples = read(forms)
    assert {(one.prompt, one.reference, one.answer, one.chat) for one in examples} == {(USER["content"], "5", None, ())}
    assert [one.id for one in examples] == [f"rows/train/{index}" for index in range(4)]


def test_a_chat_keeps_its_turns_and_trains_on_the_last(tmp_path: Path) -> None:
    more = {"role": "user", "content": "And doubled?"}
    path = write(tmp_path / "rows.jsonl", {"messages": [SYSTEM, USER, ANSWER, more, {**ANSWER, "content": "10"}]})
    (one,) = read(path)
    assert one.reference == "10"
    assert one.prompt == "And doubled?"
    assert [turn.role for turn in one.chat] == ["system", "user", "assistant", "user"]
    assert one.chat[0] == Message("system", "Be brief.")


def test_gzip_and_arrays_are_read(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]
    array = tmp_path / "rows.json"
    array.write_text(json.dumps(rows))
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(array.read_bytes()))
    assert [one.reference for one in read(array)] == [one.reference for one in read(packed)] == ["b", "d"]


def test_rewrites_are_checked_by_the_answer_where_there_is_one(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.jsonl",
        {"prompt": "2 + 3?", "completion": "5", "answer": 5},
        {"prompt": "x + x?", "completion": "2x", "answer": "2x"},
        {"prompt": "Capital of France?", "completion": "Paris.", "answer": "paris"},
        {"prompt": "Write a haiku.", "completion": "An old pond"},
    )
    task = TrainFile(path, "rows")
    number, formula, words, free = read(path)
    assert [task.grade(number, text).correct for text in ("The answer is 5.", "The answer is 6.")] == [True, False]
    assert [task.grade(formula, text).correct for text in (r"\boxed{x+x}", r"\boxed{3x}")] == [True, False]
    assert [task.grade(words, text).correct for text in ("It is Paris.", "Parisian", "Rome")] == [True, False, False]
    assert [task.grade(free, text).correct for text in ("Any text", "  ")] == [True, False]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "a", "answer": "b"}, "needs 'prompt' and 'completion', or 'messages'; found question, answer"),
        ({"prompt": "a"}, "needs 'prompt' and 'completion'"),
        ({}, "found nothing"),
        ({"prompt": "a", "completion": " "}, "the answer to train on is blank"),
        ({"prompt": " ", "completion": "b"}, "there is no user turn, or it is blank"),
        ({"prompt": 3, "completion": "b"}, "'prompt' must be text or a list of chat turns"),
        ({"prompt": "a", "completion": None}, "'completion' must be text or a list"),
        ({"messages": []}, "'messages' must be a list of chat turns"),
        ({"messages": [USER]}, "must be the assistant's, not user"),
        ({"messages": [ANSWER]}, "there is no user turn"),
        ({"messages": [USER, ANSWER, ANSWER]}, "two turns of the assistant follow one another"),
        ({"messages": [USER, {"role": "bot", "content": "5"}]}, "role of turn 2 of 'messages' must be system, user"),
        ({"messages": [USER, {"role": "assistant", "content": 5}]}, "content of turn 2 of 'messages' must be text"),
        ({"messages": [USER, "5"]}, "role of turn 2"),
        ({"messages": [USER, ANSWER], "prompt": "a"}, "keep one form"),
        ({"prompt": "a", "completion": "b", "answer": ["b"]}, "'answer' must be text or a number"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(row: Any, words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", {"prompt": "a", "completion": "b"}, row)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert words in str(caught.value)


def test_an_empty_or_missing_file(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(DataError, match="has no rows"):
        read(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="there is no such file"):
        read(tmp_path / "none.jsonl")


def test_names(tmp_path: Path) -> None:
    assert file_task_name(Path("my rows.v2.jsonl.gz"), ()) == "my-rows.v2"
    assert file_task_name(Path("gsm8k.json"), ("gsm8k",)) == "gsm8k-file"


def test_data_check_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "c", "answer": "c"}
    path = write(tmp_path / "rows.jsonl", *rows, {"messages": [SYSTEM, USER, ANSWER]})
    assert run_cli(["data", "check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "3 training rows, 1 with a system prompt or earlier turns, 1 with a final answer, 1 with the prompt" in out
    write(path, {"prompt": "a"})
    assert run_cli(["data", "check", str(path)]) == 1
    assert f"{path}, line 1: " in capsys.readouterr().err
