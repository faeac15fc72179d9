"""BoolQ with stock lm-eval's prompt (Clark and others, arXiv 1905.10044)."""

from __future__ import annotations

from typing import Any

from dasd_bench.tasks.base import DataSource, Row
from dasd_bench.tasks.stock_choice import ChoiceParts, StockChoiceTask, with_columns


class BoolQ(StockChoiceTask):
    """Yes or no by log-likelihood. Stock lm-eval reads SuperGLUE's copy, whose passages begin with their titles."""

    name = "boolq"
    summary = "yes or no from a passage, 0-shot, stock lm-eval's boolq on google/boolq's passages (retention)"
    data = DataSource("boolq", ("question", "passage", "answer"), ("validation",), hub_path="google/boolq")
    text_columns = ("question", "passage")
    stock = "boolq"
    comparable = False

    def parts(self, row: Row) -> ChoiceParts:
        """Passage, question, no and yes."""
        prompt = f"{row['passage']}\nQuestion: {row['question']}?\nAnswer:"
        return ChoiceParts(prompt, ["no", "yes"], int(row["answer"]))

    def adapt(self, config: dict[str, Any]) -> dict[str, Any]:
        """SuperGLUE's column ``label`` made from ``answer``."""
        return with_columns(config, lambda row: {"label": int(row["answer"])})
