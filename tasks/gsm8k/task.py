"""GSM8K as stock lm-eval has it (Cobbe and others, arXiv 2110.14168): five shots, and eight fixed shots with steps."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.families import NumberTask
from dasd_bench.tasks.grading import steps

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
        return steps(str(row["answer"]))


class Gsm8kCot(Gsm8k):
    """The same problems after eight fixed shots; the last number counts, "The answer is n." is reported too."""

    name = "gsm8k_cot"
    summary = "grade-school word problems, 8 fixed shots with steps, stock lm-eval's gsm8k_cot"
    stock = "gsm8k_cot"
    answer_markers = ("The answer is",)
    rewrite_instruction = 'Write this solution again in your own words. End with "The answer is" and the final number.'

    def reference_of(self, worked: str, final: str) -> str:
        """The worked steps and the sentence that the shots end on."""
        return f"{worked}The answer is {final}."
