"""PIQA as stock lm-eval has it (Bisk and others, arXiv 1911.11641)."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource, Row
from dasd_bench.tasks.stock_choice import ChoiceParts, StockChoiceTask


class Piqa(StockChoiceTask):
    """Which of two ways reaches an everyday goal, by log-likelihood."""

    name = "piqa"
    summary = "everyday physics, two candidate solutions, 0-shot, stock lm-eval's piqa (retention)"
    data = DataSource("piqa", ("goal", "sol1", "sol2", "label"), ("validation",), hub_path="baber/piqa")
    text_columns = ("goal", "sol1", "sol2")
    stock = "piqa"
    metric = "acc_norm"

    def parts(self, row: Row) -> ChoiceParts:
        """Goal and the two solutions."""
        return ChoiceParts(f"Question: {row['goal']}\nAnswer:", [row["sol1"], row["sol2"]], int(row["label"]))
