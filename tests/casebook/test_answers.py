"""The casebook of answers, through ``grade`` and ``exec --extract``: each line is one way to write an answer.

``right`` false: the answer must not pass. A failure lists the lines that are judged otherwise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.cli.main import run_cli

HERE = Path(__file__).parent
PROBLEMS = [
    {
        "task_id": "T/one",
        "prompt": "",
        "entry_point": "foo",
        "test": "def check(candidate):\n    assert candidate() == 1\n",
        "canonical_solution": "def foo():\n    return 1\n",
    },
    {
        "task_id": "T/keep",
        "prompt": "def foo(xs):\n",
        "entry_point": "foo",
        "test": "def check(candidate):\n    v = [3, 1]\n    assert candidate(v) == [1, 3]\n    assert v == [3, 1]\n",
        "canonical_solution": "    return sorted(xs)\n",
    },
]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("name", "kind"), [("numbers", "number"), ("mathematics", "math"), ("choices", "choice")], ids=str
)
def test_answers_are_read_as_they_are_meant(name: str, kind: str, tmp_path: Path) -> None:
    output = tmp_path / "graded.jsonl"
    assert run_cli(["grade", str(HERE / f"{name}.jsonl"), "--as", kind, "--output", str(output)]) == 0
    graded = rows(output)
    assert len(graded) == len(rows(HERE / f"{name}.jsonl"))
    assert [row for row in graded if row["correct"] != row.get("right", True)] == []


def test_programs_are_found_in_answers(tmp_path: Path) -> None:
    problems, output = tmp_path / "problems.jsonl", tmp_path / "judged.jsonl"
    problems.write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS))
    places = ["--problems", str(problems), "--output", str(output)]
    answers = str(HERE / "code_answers.jsonl")
    assert run_cli(["exec", answers, *places, "--extract", "--confirm-run-unsafe-code"]) == 0
    assert [row for row in rows(output) if row["passed"] != row.get("right", True)] == []
