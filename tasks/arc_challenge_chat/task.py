"""ARC-Challenge asked for a letter, as stock lm-eval has it for chat models."""

from __future__ import annotations

from typing import ClassVar

from dasd_bench.tasks.base import DataSource, Row
from dasd_bench.tasks.families import ChoiceTask
from dasd_bench.types import Example


class ArcChallengeChat(ChoiceTask):
    """The choices are shown and the answer is begun: "The best answer is"."""

    name = "arc_challenge_chat"
    summary = "science questions, the harder questions, answered by letter, 0-shot, stock lm-eval's arc_challenge_chat"
    data = DataSource(
        "arc_challenge",
        ("id", "question", "choices", "answerKey"),
        ("train", "validation", "test"),
        hub_path="allenai/ai2_arc",
        hub_name="ARC-Challenge",
    )
    stock = "arc_challenge_chat"
    metric = "exact_match"
    filter = "remove_whitespace"
    comparable = True
    max_new_tokens = 100
    answer_markers: ClassVar[tuple[str, ...]] = ("The best answer is",)
    rewrite_instruction = 'Write "The best answer is" and the letter again, then explain it in one sentence.'

    def example(self, row: Row, split: str, index: int) -> Example:
        """Labels are the letters that the prompt shows, whatever the row calls them."""
        example = super().example(row, split, index)
        example.extra["labels"] = list("ABCDE"[: len(example.extra["choices"])])
        return example

    def reference_of(self, texts: list[str], labels: list[str], gold: int) -> str:
        """The sentence that the prompt asks for, with the letter that the prompt shows for the right choice."""
        return f"The best answer is {'ABCDE'[gold]}."
