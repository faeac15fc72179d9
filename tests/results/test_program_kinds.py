"""Kinds of token in answers that are Python programs."""

from __future__ import annotations

import pytest

from dasd_bench.results.token_classes import program_kinds

WORDS = [
    "Here",
    ":",
    "\n```python\n",
    "def",
    " f",
    "(",
    "x",
    "):",
    "\n",
    "  # add",
    " one",
    "\n",
    "  return",
    " x",
    " +",
    " 1",
]
KINDS = ["wording", "wording", "wording", "name", "name", "format", "name", "format", "format", "wording", "wording"]
KINDS += ["format", "name", "name", "numeric", "numeric"]


@pytest.mark.parametrize("rest", [["\n```"], []])
def test_kinds_follow_python_and_a_program_may_stop_in_the_middle(rest: list[str]) -> None:
    words = WORDS + rest
    ends = [len("".join(words[: i + 1])) for i in range(len(words))]
    assert program_kinds("".join(words), ends)[: len(KINDS)] == KINDS


def test_an_unclosed_program_is_read_as_far_as_it_goes() -> None:
    text = "def f(x):\n    return (x * 'a"
    assert program_kinds(text, [3, 5, len(text)])[:2] == ["name", "name"]
    assert program_kinds("", []) == []
