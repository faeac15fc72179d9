"""Records: the choice that was scored, answers that can be compared with what was extracted, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dasd_bench.engine.requests import LogLikelihood
from dasd_bench.evaluation import EvalSettings, Sample, evaluate
from dasd_bench.evaluation.regrade import regrade
from dasd_bench.methods.context import Generation
from dasd_bench.registry import discover
from dasd_bench.tasks.base import Row, Task
from dasd_bench.tasks.grading import Verifier
from dasd_bench.types import Reason
from tests.tiny_models import tiny_tokenizer

TOKENIZER = tiny_tokenizer("llama")
FIRE: Row = {
    "id": "a",
    "question": "Which is hot?",
    "choices": {"text": ["ice", "snow", "fire", "rain", "fog"], "label": list("ABCDE")},
    "answerKey": "C",
}
FOUR: Row = {**FIRE, "choices": {"text": ["ice", "snow", "fire", "rain"], "label": list("1234")}, "answerKey": "3"}
MMLU: Row = {
    "question": "Which is hot?",
    "subject": "abstract_algebra",
    "choices": ["ice", "snow", "fire", "rain"],
    "answer": 2,
}
MATH: Row = {
    "problem": "What is $1/2+1/4$?",
    "level": "Level 2",
    "type": "Prealgebra",
    "solution": "It is $\\boxed{\\frac{3}{4}}$.",
}


class Fixed:
    """Writes one text, and gives the choices of each question the log-likelihoods given."""

    context_length = 2048
    processes = 1

    def __init__(self, text: str = "", logps: tuple[float, ...] = ()) -> None:
        self.text, self.logps = text, logps

    def generate(self, requests: Any, on_result: Any = None) -> list[Generation]:
        ids = np.array([*TOKENIZER.encode(self.text, add_special_tokens=False), TOKENIZER.eos_token_id], np.int32)
        made = [Generation(ids, np.zeros(len(ids), np.float32), self.text, "stop") for _ in requests]
        for number, one in enumerate(made):
            on_result(number, one)
        return made

    def loglikelihood(self, requests: Any, on_result: Any = None) -> list[LogLikelihood]:
        return [LogLikelihood(self.logps[i % len(self.logps)], False, 1) for i in range(len(requests))]


def record(task: Task | str, row: Row, engine: Fixed) -> Sample:
    """The one record of a row."""
    task = discover().task(task).item if isinstance(task, str) else task
    settings = EvalSettings(chat_template=False, num_fewshot=0)
    (made,) = evaluate(task, engine, TOKENIZER, rows=[row], settings=settings).records
    (again,) = regrade(task, [row], [made]).records
    assert again.to_json() == made.to_json()
    return made


def test_record_and_score_are_of_the_same_choice() -> None:
    """lm-eval divides by the length of the choice with its spaces; some rows of PIQA have them."""
    row = {"goal": "To cool down", "sol1": "sit in some shade", "sol2": "sit outside      ", "label": 1}
    # Per character with spaces the second is likelier, without them the first.
    made = record("piqa", row, Fixed(logps=(-17.0, -14.0)))
    assert made.metrics["acc_norm,none"] == 1.0
    assert made.correct
    assert (made.completion, made.answer) == ("sit outside", "sit outside")


@pytest.mark.parametrize(("name", "row"), [("mmlu", MMLU), ("commonsense_qa", FIRE)])
def test_letters_are_compared_with_letters(name: str, row: Row) -> None:
    right = record(name, row, Fixed(logps=(-3.0, -3.0, -1.0, -3.0, -3.0)[: 5 if name != "mmlu" else 4]))
    assert (right.extracted, right.answer, right.correct) == ("C", "C", True)
    wrong = record(name, row, Fixed(logps=(-1.0, -3.0, -2.0, -3.0, -3.0)[: 5 if name != "mmlu" else 4]))
    assert (wrong.extracted, wrong.answer, wrong.reason) == ("A", "C", Reason.WRONG)


def test_words_are_compared_with_words() -> None:
    made = record("arc_easy", FOUR, Fixed(logps=(-9.0, -9.0, -1.0, -9.0)))
    assert (made.extracted, made.answer, made.correct) == ("fire", "fire", True)


@pytest.mark.parametrize(
    ("text", "extracted", "reason"),
    [
        (" C", "C", Reason.CORRECT),
        (" B", "B", Reason.WRONG),
        ("", None, Reason.NO_ANSWER),
        (" ", None, Reason.NO_ANSWER),
    ],
)
def test_a_letter_that_was_written(text: str, extracted: str | None, reason: Reason) -> None:
    made = record("arc_challenge_chat", FOUR, Fixed(text))
    assert (made.extracted, made.answer, made.reason) == (extracted, "C", reason)


def test_no_verdict_in_time_is_its_own_reason() -> None:
    """The headline asks about whole texts: that question's time limit counts, not another one's."""
    shipped = discover().task("math").item

    class Hasty(type(shipped)):  # type: ignore[misc]
        verifier = Verifier(cpu_seconds=0.4)

    task = Hasty()
    task.folder = shipped.folder
    late = record(task, MATH, Fixed("Final Answer: The final answer is $9^{9^{9^{9}}}$. I hope it is correct."))
    assert (late.reason, late.score, late.correct) == (Reason.TIMEOUT, 0.0, False)
    assert record("math", MATH, Fixed("So \\boxed{\\frac{6}{8}}.")).reason is Reason.CORRECT
    assert record("math", MATH, Fixed("So \\boxed{2}.")).reason is Reason.WRONG
    assert record("math", MATH, Fixed("I do not know.")).reason is Reason.NO_ANSWER
