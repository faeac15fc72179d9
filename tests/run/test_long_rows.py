"""Rows that do not fit the model's context: left out or cut, counted and named, and the others trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dasd_bench.methods.context import WINDOW, character_ends
from tests.run.helpers import command, run_args
from tests.tiny_models import make_tiny_model

CONTEXT = 400


@pytest.mark.parametrize("method", ["sft", "dasd"])
def test_one_long_row_does_not_end_the_arm(method: str, tmp_path: Path, capsys) -> None:
    model = make_tiny_model("llama", tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    folder = tmp_path / "data" / "mini_gsm"
    folder.mkdir(parents=True)
    good = [{"question": f"What is {i} + 1?", "answer": f"{i} + 1 = {i + 1}\n#### {i + 1}"} for i in range(5)]
    long_prompt = {"question": "word " * 2 * CONTEXT, "answer": "#### 1"}
    long_answer = {"question": "What is 1 + 1?", "answer": "so " * CONTEXT + "#### 2"}
    rows = {"train": [good[0], long_prompt, long_answer, *good[1:3]], "test": good[3:]}
    for split, made in rows.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    args = run_args(model, tmp_path, "--data-dir", str(tmp_path / "data"), methods=method)
    args[args.index("mini_gsm,mini_arc")] = "mini_gsm"
    result = command(capsys, *args)
    assert result.code == 0, result.err
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    found = {one["reason"]: one["examples"] for one in manifest["left_out"]}
    assert found["skipped, because no active token fits into the context after their prompt"] == ["mini_gsm/train/1"]
    assert found["truncated to the context"] == ["mini_gsm/train/2"]
    assert "1 of 5 training examples were skipped" in result.out


def test_ends_of_pieces_are_those_of_decoding_all_before_them() -> None:
    text = "é😀 naïve 日本語 #### 5\n" * 30
    data = text.encode()

    def decode(ids: list[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")

    assert len(data) > 3 * WINDOW
    assert character_ends(decode, list(data)) == [len(decode(list(data[: i + 1]))) for i in range(len(data))]
