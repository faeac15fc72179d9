"""WinoGrande as stock lm-eval has it (Sakaguchi and others, arXiv 1907.10641)."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource, Row
from dasd_bench.tasks.stock_choice import ChoiceParts, StockChoiceTask


class WinoGrande(StockChoiceTask):
    """Whom a pronoun's gap means: the sentence's rest is scored after each of two names."""

    name = "winogrande"
    summary = "which name fills the gap, two choices, 0-shot, stock lm-eval's winogrande (retention)"
    data = DataSource(
        "winogrande",
        ("sentence", "option1", "option2", "answer"),
        ("validation",),
        hub_path="allenai/winogrande",
        hub_name="winogrande_xl",
    )
    text_columns = ("sentence", "option1", "option2")
    stock = "winogrande"

    def parts(self, row: Row) -> ChoiceParts:
        """The sentence up to its gap, and the two names."""
        return ChoiceParts(
            str(row["sentence"]).partition("_")[0].strip(), [row["option1"], row["option2"]], int(row["answer"]) - 1
        )
