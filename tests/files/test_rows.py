"""Rows and files of rows as people have them: read, or named with file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.cli.main import run_cli
from dasd_bench.errors import DataError
from dasd_bench.files.jsonl import dump_rows, numbered_rows, read_rows

GOOD = {"question": "Tom has 4 caps and finds 2. How many?", "answer": "4+2=6.\n#### 6"}
LINE = json.dumps(GOOD).encode() + b"\n"


def check(folder: Path, capsys: pytest.CaptureFixture[str], task: str = "gsm8k") -> tuple[int, str]:
    code = run_cli(["data", "check", str(folder), "-t", task])
    said = capsys.readouterr()
    assert "unexpected" not in said.err
    return code, said.out


def put(folder: Path, data: bytes, name: str = "test.jsonl", task: str = "gsm8k") -> Path:
    path = folder / task / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("test.jsonl", b"\xef\xbb\xbf" + LINE + LINE),
        ("test.jsonl", LINE + b"\r\n  \n" + LINE.strip()),
        ("test.jsonl.gz", gzip.compress(LINE * 2)),
        ("test.jsonl", gzip.compress(LINE * 2)),
        ("test.json", json.dumps([GOOD, GOOD], indent=1).encode()),
        ("test.json.gz", gzip.compress(b"\xef\xbb\xbf" + json.dumps([GOOD, GOOD]).encode())),
        ("test.jsonl", LINE + json.dumps(GOOD | {"note": "\u2028\u0085 \U0001d54f"}).encode()),
    ],
)
def test_forms_of_a_file_that_are_read(name: str, data: bytes, tmp_path: Path, capsys) -> None:
    put(tmp_path, data, name)
    code, out = check(tmp_path, capsys)
    assert (code, "test 2 rows" in out) == (0, True), out


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"question": "\\ud835", "answer": "#### 1"}', "'\\ud835' is half of a surrogate pair"),
        (b'{"question": "x", "answer": ' + b"7" * 5000 + b"}", "an integer of more than 4,300 digits"),
        (b'{"x": ' + b"[" * 400 + b"]" * 400 + b"}", "nested deeper than 200 levels"),
        (b'{"x": ' + b'{"a":' * 90000 + b"1" + b"}" * 90001, "nested deeper than 200 levels"),
        (b'{"question": "caf\xe9"}', "not UTF-8 text"),
        (b"[1, 2]", "a JSON object is expected, found a list"),
        (b"null", "a JSON object is expected"),
        (b"{'question': 1}", "not a JSON row"),
    ],
)
def test_a_line_that_is_no_row_is_named(line: bytes, reason: str, tmp_path: Path, capsys) -> None:
    put(tmp_path, LINE + b"\n" + line + b"\n" + LINE)
    code, out = check(tmp_path, capsys)
    assert code == 1
    assert "test.jsonl, line 3" in out
    assert reason in out


def arc(**changes: Any) -> bytes:
    row = {
        "id": "a",
        "question": "Which one is a metal?",
        "choices": {"text": ["tin", "wood", "wool"], "label": ["A", "B", "C"]},
        "answerKey": "A",
    }
    return json.dumps(row | changes).encode() + b"\n"


@pytest.mark.parametrize(
    ("task", "row", "reason"),
    [
        ("gsm8k", json.dumps(GOOD | {"question": ["a", "b"]}).encode(), "'question' must be text, found a list"),
        ("gsm8k", json.dumps(GOOD | {"question": 5}).encode(), "'question' must be text, found a whole number"),
        ("gsm8k", json.dumps(GOOD | {"answer": "six"}).encode(), "does not end in '#### n'"),
        ("arc_easy", arc(choices={"text": ["tin", "", "wool"], "label": ["A", "B", "C"]}), "choice 2 is blank"),
        ("arc_easy", arc(choices={"text": ["tin", "wood", "wool"], "label": ["A", "B"]}), "3 choices and 2 labels"),
        ("arc_easy", arc(choices={"text": ["tin", 4, "wool"], "label": ["A", "B", "C"]}), "choice 2 must be text"),
        ("arc_easy", arc(choices={"text": ["tin", "wood"], "label": ["A", "A"]}), "a duplicate among the labels"),
        ("arc_easy", arc(choices={"text": ["tin"], "label": ["A"]}), "at least two"),
        ("arc_easy", arc(choices=["tin", "wood"]), "must hold the lists 'text' and 'label'"),
        ("arc_easy", arc(answerKey="D"), "the answerKey 'D' is not one of the labels A, B, C"),
    ],
)
def test_a_row_that_a_task_cannot_use_is_named(task: str, row: bytes, reason: str, tmp_path: Path, capsys) -> None:
    put(tmp_path, row, task=task)
    code, out = check(tmp_path, capsys, task)
    assert code == 1
    assert "test.jsonl, row 1" in out
    assert reason in out


def test_a_right_choice_before_the_first_is_no_choice(tmp_path: Path, capsys) -> None:
    row = {"sentence": "Ann told Eve that _ won.", "option1": "Ann", "option2": "Eve", "answer": "0"}
    put(tmp_path, json.dumps(row).encode(), "validation.jsonl", "winogrande")
    code, out = check(tmp_path, capsys, "winogrande")
    assert (code, "the correct choice is number 0 of 2" in out) == (1, True)


def test_a_column_under_another_release_s_name_is_named(tmp_path: Path, capsys) -> None:
    row = {"task_id": "Mbpp/1", "prompt": "Add.", "solution": "def f(): ...", "test_list": ["assert f() is None"]}
    put(tmp_path, json.dumps(row).encode(), task="mbppplus")
    code, out = check(tmp_path, capsys, "mbpp_plus")
    assert (code, "Rename 'solution'" in out) == (1, True)


def test_a_packed_file_that_was_cut_loses_no_row_in_silence(tmp_path: Path) -> None:
    path = put(tmp_path, gzip.compress(LINE * 1000)[:-12])
    with pytest.raises(DataError, match=r"test\.jsonl is damaged: it cannot be decompressed"):
        read_rows(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / ("x" * 300)):
        with pytest.raises(DataError, match=r"not a file|File name too long"):
            read_rows(path)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [{"a": "é\u2028\x85\n", "b": [1, 2.5, None]}, {"c": {"d": "\U0001f600"}}]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(dump_rows(rows))
    assert path.read_bytes() == "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    assert list(numbered_rows(path)) == list(enumerate(rows, 1))
    path.write_bytes(path.read_bytes()[:-3])
    assert read_rows(path, torn_end=True) == rows[:1]
