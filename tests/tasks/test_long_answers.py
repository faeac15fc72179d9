"""Grading is linear in the length of an answer: runaway text of one piece takes seconds, not hours."""

from __future__ import annotations

import subprocess
import sys

import pytest

PIECES = [
    "\n", "1", " ", "\\", "{", "}", "$", "####", "#### 1\n", "answer is ", "answer is 5\n", "A B C D ", "A\n", "$x$",
    "$x ", "\\(", "\\boxed{", "\\boxed{5} ", "```\n", "> ", "def f():\n", "1,", "½",
]  # fmt: skip
CODE = """
import sys
from dasd_bench.sandbox.extract import extract_code
from dasd_bench.tasks.grading import extract_math, extract_number, grade_choice
for piece in eval(sys.argv[1]):
    text = (piece * 50_000)[:50_000]
    extract_number(text)
    extract_math(text, "5")
    extract_math(text, "\\\\sqrt{2}")
    grade_choice(text, ["iron", "oxygen", "a 1", "1"], "ABCD", 1)
    extract_code(text, "f")
"""


@pytest.mark.parametrize("pieces", [PIECES[::2], PIECES[1::2]], ids=["even", "odd"])
def test_runaway_text_is_read_in_linear_time(pieces: list[str]) -> None:
    """50,000 characters of each; a quadratic reader takes minutes for one of them."""
    command = [sys.executable, "-c", CODE, repr(pieces)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
