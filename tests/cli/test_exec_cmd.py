# ruff: noqa: E501 (programs and payloads read better on one line)
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dasd_bench.cli.exec_cmd import exec_command
from dasd_bench.errors import DataError, UsageError

PROBLEMS = [
    {"task_id": "A/0", "prompt": "def f(x):\n    '''x'''\n", "entry_point": "f", "canonical_solution": "    return x\n",
     "test": "def check(candidate):\n    assert candidate(1) == 1\n"},
    {"task_id": 7, "text": "", "code": "def g(): return 2", "test_list": ["assert g() == 2"], "test_setup_code": ""},
]  # fmt: skip
SAMPLES = [
    {"task_id": "A/0", "completion": "    return x\n", "note": "kept"},
    {"task_id": 7, "completion": "Sure!\n```python\ndef g():\n    return 2\n```\nDone."},
    {"task_id": "A/0", "completion": "    return 0\n"},
]


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def call(tmp_path: Path, *options: str) -> str:
    arguments = [write(tmp_path / "s.jsonl", SAMPLES), "--problems", write(tmp_path / "p.jsonl", PROBLEMS), "--workers", "1",
                 "--output", str(tmp_path / "out.jsonl"), "--allow-unsafe-code", *options]  # fmt: skip
    result = CliRunner().invoke(exec_command, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_rows_come_out_in_order_with_their_own_columns(tmp_path: Path) -> None:
    output = call(tmp_path, "--confirm-run-unsafe-code", "--extract", "--json", "--k", "1,2", "--self-test")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["passed"] for row in rows] == [True, True, False]
    assert rows[0]["note"] == "kept"
    assert rows[2]["outcome"] == "wrong_answer"
    summary = json.loads(output)
    assert summary["pass@1"] == pytest.approx(0.75)
    # Two problems, 0.5 and 1.0: the spread between problems, not between samples.
    assert summary["pass@1_ci95"] == pytest.approx([0.75 - 1.96 * 0.25, 1.0])
    assert "pass@2" not in summary  # one of the problems has a single sample
    assert summary["self_test"].startswith("2 of 2 reference solutions pass")


def test_refuses_without_consent_and_names_the_bad_row(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--confirm-run-unsafe-code"):
        call(tmp_path)
    with pytest.raises(UsageError, match="--k"):
        call(tmp_path, "--confirm-run-unsafe-code", "--k", "0")
    bad = write(tmp_path / "bad.jsonl", [{"task_id": "A/0"}])
    with pytest.raises(DataError, match=r"bad.jsonl, row 1: the columns"):
        CliRunner().invoke(
            exec_command,
            [bad, "--problems", write(tmp_path / "p.jsonl", PROBLEMS), "--output", "o", "--confirm-run-unsafe-code"],
            catch_exceptions=False,
        )


def test_the_sandbox_imports_no_torch_and_nothing_else_of_the_harness() -> None:
    code = (
        "import sys, dasd_bench.sandbox\n"
        "print([m for m in sys.modules if m == 'torch' or m == 'numpy' or (m.startswith('dasd_bench.') "
        "and not m.startswith(('dasd_bench.sandbox', 'dasd_bench.errors')))])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
