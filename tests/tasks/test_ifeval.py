"""IFEval by lm-eval's own checkers: known verdicts, a whole evaluation, and what is said where parts lack."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import Any

import nltk
import pytest

from dasd_bench.engine.engine import Engine
from dasd_bench.errors import DataError
from dasd_bench.evaluation import EvalSettings, evaluate
from dasd_bench.evaluation.regrade import regrade
from dasd_bench.registry import Registry, discover
from dasd_bench.run.data import lacking
from dasd_bench.tasks.base import Row, Task
from dasd_bench.types import Reason
from tests.tiny_models import tiny_model, tiny_tokenizer

PUNKT = {
    "abbrev_types.txt": "mr\ndr\n",
    "collocations.tab": "",
    "sent_starters.txt": "",
    "ortho_context.tab": "",
}
"""A sentence model that knows two abbreviations, in the files of nltk's ``punkt_tab``."""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


@pytest.fixture
def task(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    folder = tmp_path / "nltk_data/tokenizers/punkt_tab/english"
    folder.mkdir(parents=True)
    for name, text in PUNKT.items():
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("NLTK_DATA", str(tmp_path / "nltk_data"))
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk_data")])
    return registry.task("ifeval").item


def row(*instructions: tuple[str, dict[str, Any]]) -> Row:
    """A row with the hub's columns; there every instruction lists all arguments, most of them null."""
    names = {key for _, arguments in instructions for key in arguments}
    return {
        "key": 1,
        "prompt": "Write about pens.",
        "instruction_id_list": [name for name, _ in instructions],
        "kwargs": [{**dict.fromkeys(names), **arguments} for _, arguments in instructions],
    }


NO_COMMA = ("punctuation:no_comma", {})
THREE = ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 3})
LOWER = ("change_case:english_lowercase", {})
QUOTED = ("startend:quotation", {})
WORD = ("keywords:existence", {"keywords": ["pens"]})
WORDS = ("length_constraints:number_words", {"relation": "at least", "num_words": 1})


@pytest.mark.parametrize(
    ("instructions", "text", "kept"),
    [
        ([NO_COMMA], "Pens are blue or black.", True),
        ([NO_COMMA], "Pens are blue, black or red.", False),
        ([THREE], "Here is one. This is two. And the third!", True),
        ([THREE], "Dr. Ann has pens. Mr. Bob has none.", False),
        ([LOWER], "these are only small letters, and all of it is english.", True),
        ([LOWER], "There is one Capital here and that is one too many.", False),
        ([QUOTED], '"All of it stands in quotation marks."', True),
        ([WORD, NO_COMMA], "I like pens.", True),
        ([WORD, NO_COMMA], "I like pens, and paper.", False),
    ],
)
def test_verdicts(task: Task, instructions: list[tuple[str, dict[str, Any]]], text: str, kept: bool) -> None:
    example = task.example(row(*instructions), "test", 0)
    assert example.subject == instructions[0][0].partition(":")[0]
    for _ in range(3):  # language detection draws random numbers where it is let
        verdict = task.grade(example, text)
        assert verdict.correct is kept
        assert verdict.reason is (Reason.CORRECT if kept else Reason.WRONG)


def test_a_letter_that_is_none_gets_the_same_verdict_each_time(task: Task) -> None:
    """lm-eval's checker draws another letter in its place; half of them are in the text."""
    hashes = ("keywords:letter_frequency", {"letter": "#", "let_relation": "at least", "let_frequency": 4})
    example = task.example(row(hashes), "test", 0)
    random.seed(7)
    expected = [random.random() for _ in range(24)]
    random.seed(7)
    verdicts = set()
    for value in expected:
        verdicts.add(task.grade(example, "abcdefghijklm " * 5).correct)
        assert random.random() == value
    assert len(verdicts) == 1


def test_nothing_written_is_no_answer(task: Task) -> None:
    assert task.grade(task.example(row(WORD), "test", 0), " \n").reason is Reason.NO_ANSWER


def test_a_whole_evaluation(task: Task) -> None:
    tokenizer, model = tiny_tokenizer("llama"), tiny_model("llama")
    model.config.max_position_embeddings = 1400  # the task's budget of 1280 tokens and a prompt
    rows = [row(NO_COMMA), row(QUOTED, WORDS), row(WORDS), row(QUOTED)]
    settings = EvalSettings(chat_template=False)
    result = evaluate(task, Engine(model, tokenizer), tokenizer, rows=rows, settings=settings)
    assert [record.prompt for record in result.records] == ["Write about pens."] * 4
    assert result.score == sum(record.correct for record in result.records) / 4
    for one, record in zip(rows, result.records, strict=True):
        assert record.correct is task.grade(task.example(one, "test", 0), record.completion).correct
    assert [record.correct for record in result.records[1:]] == [False, True, False]
    # Every instruction counts once: five in all, and the two about words are kept.
    comma_kept = result.records[0].correct
    assert result.metrics["inst_level_strict_acc,none"] == pytest.approx((2 + comma_kept) / 5)
    again = regrade(task, rows, result.records)
    assert again.records == result.records
    assert again.metrics == result.metrics


def test_what_lacks_is_named(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = registry.task("ifeval").item
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    assert "python -m nltk.downloader punkt_tab" in str(lacking(task))
    with pytest.raises(DataError, match="punkt_tab"):
        task.adapt({})
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "langdetect" else found(name))
    assert lacking(task) == "needs langdetect: pip install 'dasd-bench[ifeval]'"
