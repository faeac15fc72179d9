"""A task plugin that fails in the middle of a run: its task or arm fails, finished work is kept, the others go on."""

from __future__ import annotations

import json
from pathlib import Path

from tests.run.helpers import command, run_args
from tests.run.test_task_input import TASK, YAML, sums

GRADE = """
    def grade(self, example, text):
        raise RuntimeError("the checker is gone")
"""


def test_a_task_that_fails_leaves_the_others(tiny_folder, tmp_path: Path, capsys) -> None:
    yaml = YAML.replace("SHOTS", "0")
    more = sums(tmp_path, yaml, train=["What is 1+2?", "What is 2+1?"], test=["What is 3?", "What is 9?"])
    plugin = tmp_path / "plugins" / "sums"
    (plugin / "task.py").write_text(TASK + GRADE)
    args = [
        "sums,mini_arc" if arg == "mini_gsm,mini_arc" else arg
        for arg in run_args(tiny_folder("llama"), tmp_path, *more, methods="sft,self-distill")
    ]
    result = command(capsys, *args)
    assert result.code == 3, result.out + result.err
    told = " ".join((result.out + result.err).split())
    assert f"Task sums failed and is left out: {plugin}" in told
    assert "raised RuntimeError: the checker is gone" in told
    assert "Traceback" not in told
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["status"] == "partial"
    assert [task["name"] for task in found["tasks"]] == ["mini_arc"]
    assert "sft" in [arm["label"] for arm in found["arms"]]
    assert set(found["base"]) == {"mini_arc"}

    (plugin / "task.py").write_text(TASK)
    result = command(capsys, *args)
    assert result.code == 0, result.out + result.err
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(found["base"]) == {"sums", "mini_arc"}
    assert {arm["label"] for arm in found["arms"]} == {"sft", "self-distill"}
