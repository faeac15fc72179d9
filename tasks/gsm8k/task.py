"""GSM8K as stock lm-eval has it (Cobbe and others, arXiv 2110.14168)."""

from __future__ import annotations

from dasd_bench.task import DataSource
from dasd_bench.tasks.families import NumberTask

GSM8K = DataSource("gsm8k", ("question", "answer"), hub_path="openai/gsm8k", hub_name="main")


class Gsm8k(NumberTask):
    """Grade-school word problems, five shots; the last number counts, ``#### n`` is reported too."""

    name = "gsm8k"
    summary = "grade-school word problems, 5-shot, stock lm-eval's gsm8k"
    data = GSM8K
    stock = "gsm8k"
    filter = "flexible-extract"
    comparable = True

    def level_of(self, row: dict[str, object]) -> str | None:
        """The number of steps of the reference: its lines before ``#### n``."""
        return str(str(row["answer"]).strip().count("\n"))
