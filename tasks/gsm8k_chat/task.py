"""GSM8K as one asks a chat model; an own form, beside the stock ones."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.families import NumberTask
from dasd_bench.tasks.grading import steps


class Gsm8kChat(NumberTask):
    """Zero-shot with steps. Chat models recite the shots of the stock form, or leave its answer format."""

    name = "gsm8k_chat"
    version = 2
    summary = "grade-school word problems, 0-shot with steps, for chat models; not comparable with lm-eval's gsm8k"
    data = DataSource("gsm8k", ("question", "answer"), hub_path="openai/gsm8k", hub_name="main")
    yaml = "gsm8k_chat.yaml"
    max_new_tokens = 400
    answer_markers = ("The answer is",)
    rewrite_instruction = 'Write this solution again in your own words. End with "The answer is" and the final number.'

    def reference_of(self, worked: str, final: str) -> str:
        """The worked steps and the sentence that the prompt asks for."""
        return f"{worked}The answer is {final}."

    def level_of(self, row: dict[str, object]) -> str | None:
        """The number of steps of the reference: its lines before ``#### n``."""
        return steps(str(row["answer"]))
