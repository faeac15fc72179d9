"""CommonsenseQA as stock lm-eval has it (Talmor and others, arXiv 1811.00937)."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.families import ChoiceTask


class CommonsenseQa(ChoiceTask):
    """Everyday questions with five shown choices, by log-likelihood of the letter; scored on the validation split."""

    name = "commonsense_qa"
    summary = "everyday questions, five choices, 0-shot, stock lm-eval's commonsense_qa"
    data = DataSource(
        "commonsense_qa",
        ("id", "question", "choices", "answerKey"),
        ("train", "validation"),
        hub_path="tau/commonsense_qa",
    )
    stock = "commonsense_qa"
    metric = "acc"
    comparable = True

    def reference_of(self, texts: list[str], labels: list[str], gold: int) -> str:
        """The letter, which lm-eval scores, and the choice's words."""
        return f"{labels[gold]}. {texts[gold]}"
