"""Where the question of a prompt begins: it is never cut."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.panel import Panel
from rich.text import Text

from dasd_bench.console import Console
from dasd_bench.reporting.compare import Change
from dasd_bench.reporting.question import LONG_PROMPT, USER_TURNS, question_start
from dasd_bench.reporting.show import change_lines
from dasd_bench.results.samples import Sample
from dasd_bench.types import Reason

SHOT = "Question: a train goes far.\nAnswer: it took 3 hours, so the answer is 3.\n\n"


def test_a_short_prompt_is_whole() -> None:
    assert question_start(SHOT * 3) == 0


@pytest.mark.parametrize("mark", USER_TURNS)
def test_the_last_user_turn_of_a_chat(mark: str) -> None:
    question = f"{mark}\nQuestion: how many?\n\nThink about it in\n\nthree paragraphs."
    prompt = f"{mark}\n{SHOT * 40}" + question
    assert prompt[question_start(prompt) :] == question


def test_whole_paragraphs_of_a_plain_prompt() -> None:
    question = "Question: " + "word " * 1_000 + "?\nAnswer:"
    prompt = SHOT * 40 + question
    assert prompt[question_start(prompt) :] == question, "longer than the limit, and still whole"
    prompt = SHOT * 40 + "Question: how many?\nAnswer:"
    shown = prompt[question_start(prompt) :]
    assert shown.startswith("Question: a train")
    assert len(shown) <= LONG_PROMPT


@given(st.lists(st.text(alphabet="ab \n", max_size=400), max_size=20))
def test_a_shown_part_begins_a_paragraph(parts: list[str]) -> None:
    prompt = "\n\n".join(parts)
    start = question_start(prompt)
    assert start == 0 or prompt[start - 2 : start] == "\n\n"
    assert start < max(1, len(prompt))


def test_compare_shows_the_whole_question_between_words() -> None:
    question = " ".join(f"word{i}" for i in range(60))
    sample = Sample("gsm8k/test/1", 1.0, Reason.CORRECT, question, "The answer is 18", "18")
    lines = change_lines(Change("gsm8k", "gsm8k/test/1", 1.0, question, sample, sample), 80)
    assert all(len(line) <= 80 for line in lines)
    assert " ".join(" ".join(lines).split()).count(question) == 1


def test_panels_wrap_between_words_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = io.StringIO()
    console = Console(stream=stream)
    console.rich._force_terminal = True
    words = " ".join(f"word{i:02}" for i in range(40))
    console.renderable(Panel(Text(words)))
    console.say(words)
    written = Text.from_ansi(stream.getvalue()).plain
    assert all(len(line) <= 60 for line in written.splitlines())
    assert written.count("word39") == 2
    assert "".join(written.split()).replace("│", "").count("word38word39") == 2


def test_a_pipe_gets_every_line_whole() -> None:
    stream = io.StringIO()
    words = " ".join(f"word{i:02}" for i in range(60))
    Console(stream=stream).say(words)
    assert stream.getvalue() == f"{words}\n"
