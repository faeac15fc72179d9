"""SVAMP: short word problems that punish shallow reading (Patel and others, arXiv 2103.07191)."""

from __future__ import annotations

from dasd_bench.methods.plugin_source import import_sibling
from dasd_bench.tasks.base import DataSource, Row
from dasd_bench.tasks.families import NumberTask
from dasd_bench.types import Example


class Svamp(NumberTask):
    """One or two operations; five shots that show the operations; the last number counts."""

    name = "svamp"
    summary = "short word problems of one or two operations, 5-shot; lm-eval has no such task"
    data = DataSource("svamp", ("ID", "Body", "Question", "Equation", "Answer", "Type"), hub_path="ChilleD/SVAMP")
    yaml = "svamp.yaml"
    text_columns = ("Body", "Question")
    filter = "flexible-extract"
    max_new_tokens = 128
    train_new_tokens = 96

    def example(self, row: Row, split: str, index: int) -> Example:
        """The row's operations as reference."""
        equation = import_sibling(self.folder, "equation")
        return super().example({**row, "answer": equation.worked(row)}, split, index)

    def level_of(self, row: Row) -> str | None:
        """The number of operations."""
        return str(import_sibling(self.folder, "equation").operations(row))

    def subject_of(self, row: Row) -> str | None:
        """The kind of the last operation, as published (a misspelling put right)."""
        return str(row["Type"]).replace("Divison", "Division")
