"""MMLU as stock lm-eval has it, all subjects in one task (Hendrycks and others, arXiv 2009.03300)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from dasd_bench.tasks import derive
from dasd_bench.tasks.base import DataSource, Row
from dasd_bench.tasks.stock_choice import ChoiceParts, StockChoiceTask, with_columns


class Mmlu(StockChoiceTask):
    """Four choices by the log-likelihood of their letters, zero-shot, each subject with its own first line.

    Over the whole test split the score is that of lm-eval's group ``mmlu``, which weighs subjects by their size.
    """

    name = "mmlu"
    summary = "57 subjects, four choices by letter, 0-shot, stock lm-eval's mmlu as one task (retention)"
    data = DataSource(
        "mmlu",
        ("question", "subject", "choices", "answer"),
        ("dev", "validation", "test"),
        hub_path="cais/mmlu",
        hub_name="all",
    )
    text_columns = ("question", "subject")
    stock = "mmlu_abstract_algebra"
    subject_column = "subject"

    def parts(self, row: Row) -> ChoiceParts:
        """Question and lettered choices, as the YAML words them."""
        listed = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", row["choices"], strict=True))
        return ChoiceParts(f"{str(row['question']).strip()}\n{listed}\nAnswer:", row["choices"], int(row["answer"]))

    @cached_property
    def descriptions(self) -> dict[str, str]:
        """The line that lm-eval puts before the questions of each subject, from the subjects' own YAML files."""
        found = {}
        for path in sorted(derive.yaml_path(self).parent.glob("mmlu_*.yaml")):
            config = derive.read_config(path)
            found[str(config["dataset_name"])] = str(config["description"])
        return found

    def adapt(self, config: dict[str, Any]) -> dict[str, Any]:
        """One task for all subjects: the first line follows the row's subject."""
        lines = self.descriptions
        adapted = with_columns(config, lambda row: {"first_line": lines[str(row["subject"])]})
        return {**adapted, "description": "first_line", "num_fewshot": 0}
