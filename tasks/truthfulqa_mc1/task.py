"""TruthfulQA's single-true multiple choice with stock lm-eval's prompt (Lin and others, arXiv 2109.07958)."""

from __future__ import annotations

from typing import Any

from dasd_bench.errors import DataError
from dasd_bench.tasks.base import DataSource, Row
from dasd_bench.tasks.stock_choice import ChoiceParts, StockChoiceTask, with_columns


class TruthfulQaMc1(StockChoiceTask):
    """The best answer against the false ones, by log-likelihood.

    The hub's ``multiple_choice`` rows have the choices ready; from ``generation`` rows they are put together as the
    paper does, the best answer and all false ones. The two differ in a few questions, hence not comparable.
    """

    name = "truthfulqa_mc1"
    summary = "the true answer among common falsehoods, stock lm-eval's truthfulqa_mc1 prompt (retention)"
    data = DataSource(
        "truthful_qa",
        ("question",),
        ("validation",),
        hub_path="truthfulqa/truthful_qa",
        hub_name="multiple_choice",
    )
    text_columns = ("question",)
    stock = "truthfulqa_mc1"
    comparable = False

    def choices(self, row: Row) -> list[str]:
        """The right answer first, then the false ones. A list that ends in a semicolon has an empty last one,
        which is no answer."""
        if row.get("mc1_targets"):
            return [str(choice) for choice in row["mc1_targets"]["choices"]]
        if "best_answer" not in row or "incorrect_answers" not in row:
            raise DataError("TruthfulQA rows need mc1_targets, or best_answer and incorrect_answers.")
        return [str(row["best_answer"]), *(str(answer) for answer in row["incorrect_answers"] if str(answer).strip())]

    def parts(self, row: Row) -> ChoiceParts:
        """The question alone; lm-eval's prompt has six answered ones before it."""
        return ChoiceParts(f"Q: {row['question']}\nA:", self.choices(row), 0)

    def adapt(self, config: dict[str, Any]) -> dict[str, Any]:
        """The column ``mc1_targets`` where the rows lack it."""

        def add(row: Row) -> Row:
            texts = self.choices(row)
            return {"mc1_targets": {"choices": texts, "labels": [1] + [0] * (len(texts) - 1)}}

        return with_columns(config, add)
