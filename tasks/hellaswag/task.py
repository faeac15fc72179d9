"""HellaSwag as stock lm-eval has it (Zellers and others, arXiv 1905.07830)."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource, Row
from dasd_bench.tasks.stock_choice import ChoiceParts, StockChoiceTask


class HellaSwag(StockChoiceTask):
    """How a described scene goes on, by log-likelihood of the four endings."""

    name = "hellaswag"
    summary = "sentence completion, four endings, 0-shot, stock lm-eval's hellaswag (retention)"
    data = DataSource(
        "hellaswag",
        ("activity_label", "ctx_a", "ctx_b", "endings", "label"),
        ("validation",),
        hub_path="Rowan/hellaswag",
    )
    text_columns = ("activity_label", "ctx_a", "ctx_b")
    stock = "hellaswag"
    metric = "acc_norm"

    def parts(self, row: Row) -> ChoiceParts:
        """The scene and its endings as published (lm-eval also tidies their brackets)."""
        scene = f"{row['activity_label']}: {row['ctx_a']} {str(row['ctx_b']).capitalize()}".strip()
        return ChoiceParts(scene, row["endings"], int(row["label"]))
