"""Rows from a folder, and every way such a folder can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dasd_bench.errors import DataError
from dasd_bench.registry import discover
from dasd_bench.tasks.base import Task
from dasd_bench.tasks.loading import examples_of, load_rows


@pytest.fixture(scope="module")
def gsm() -> Task:
    return discover().task("gsm8k").item


def write(folder: Path, split: str, *lines: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def row(n: int) -> str:
    return json.dumps({"question": f"What is {n}?", "answer": f"It is <<{n}={n}>>{n}.\n#### {n}"})


def test_rows_from_the_folder_with_limit_and_hash(gsm: Task, tmp_path: Path) -> None:
    write(tmp_path / "gsm8k", "test", row(1), "", row(2), row(3))
    all_rows = load_rows(gsm, "test", data_dir=tmp_path)
    two = load_rows(gsm, "test", data_dir=tmp_path, limit=2)
    assert [r["question"] for r in two.rows] == ["What is 1?", "What is 2?"]
    assert len(all_rows.rows) == 3
    assert all_rows.sha256 != two.sha256
    example = examples_of(gsm, two, "test")[1]
    assert (example.id, example.answer, example.reference) == ("gsm8k/test/1", "2", "It is 2.\n#### 2")
    assert example.prompt == "Question: What is 2?\nAnswer:"


def test_other_line_separators_inside_a_row(gsm: Task, tmp_path: Path) -> None:
    text = json.dumps({"question": "a\u2028b", "answer": "#### 1"}, ensure_ascii=False)
    write(tmp_path / "gsm8k", "test", text)
    assert load_rows(gsm, "test", data_dir=tmp_path).rows[0]["question"] == "a\u2028b"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((row(1), "{not json"), "test.jsonl, line 2: not a JSON row"),
        ((row(1), "[1, 2]"), "line 2: a JSON object is expected, found a list"),
        ((row(1), "", '{"questoin": "x", "answer": "#### 1"}'), "line 3: the column 'question' is missing"),
        (('{"question": null, "answer": "#### 1"}',), "line 1: the column 'question' is null"),
        (("",), "test.jsonl has no rows"),
    ],
)
def test_bad_rows_are_named(gsm: Task, tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    write(tmp_path / "gsm8k", "test", *lines)
    with pytest.raises(DataError) as caught:
        load_rows(gsm, "test", data_dir=tmp_path)
    assert message in str(caught.value)


def test_missing_column_suggests_the_misspelt_one(gsm: Task, tmp_path: Path) -> None:
    write(tmp_path / "gsm8k", "test", '{"questoin": "x", "answer": "#### 1"}')
    with pytest.raises(DataError, match="Did you mean 'questoin'"):
        load_rows(gsm, "test", data_dir=tmp_path)


def test_not_utf8(gsm: Task, tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "test.jsonl").write_bytes(b'{"question": "\xff"}\n')
    with pytest.raises(DataError, match="not UTF-8 text"):
        load_rows(gsm, "test", data_dir=tmp_path)


def test_missing_file_lists_what_is_there(gsm: Task, tmp_path: Path) -> None:
    write(tmp_path / "gsm8k", "train", row(1))
    with pytest.raises(DataError, match=r"test\.jsonl is missing \(the folder has train\.jsonl\)"):
        load_rows(gsm, "test", data_dir=tmp_path)


def test_missing_data_folder(gsm: Task, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="give --data-dir an existing folder"):
        load_rows(gsm, "test", data_dir=tmp_path / "none")


@pytest.mark.parametrize("offline", [True, False])
def test_the_hub_is_never_asked_offline_or_with_a_folder(
    gsm: Task, tmp_path: Path, offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match="disables the hub" if offline else "the hub is not used"):
        load_rows(gsm, "test", data_dir=None if offline else tmp_path, offline=offline)


def test_no_network_says_what_to_do(gsm: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the hub\nlong story")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"Couldn't reach the hub\); check the network, or put the rows at"):
        load_rows(gsm, "test")


def test_unknown_split(gsm: Task) -> None:
    with pytest.raises(DataError, match="has no split 'dev'; it has train, test"):
        load_rows(gsm, "dev")


def test_a_row_the_task_cannot_use_is_named(gsm: Task, tmp_path: Path) -> None:
    write(tmp_path / "gsm8k", "test", row(1), '{"question": "x", "answer": "no mark"}')
    loaded = load_rows(gsm, "test", data_dir=tmp_path)
    with pytest.raises(DataError, match=r"test\.jsonl, row 2: task 'gsm8k' cannot use it"):
        examples_of(gsm, loaded, "test")


def test_built_in_rows_give_way_to_a_folder(tmp_path: Path) -> None:
    mini = discover().task("mini_gsm").item
    assert load_rows(mini, "test", data_dir=tmp_path, offline=True).source == "built-in rows"
    write(tmp_path / "mini_gsm", "test", row(4))
    assert load_rows(mini, "test", data_dir=tmp_path).source == "mini_gsm/test.jsonl"
