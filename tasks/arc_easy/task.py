"""ARC-Easy as stock lm-eval has it (Clark and others, arXiv 1803.05457)."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.families import ChoiceTask


class ArcEasy(ChoiceTask):
    """Grade-school science questions by log-likelihood of the choices; shots with --num-fewshot."""

    name = "arc_easy"
    summary = "science questions, the easier questions, multiple choice, 0-shot, stock lm-eval's arc_easy"
    data = DataSource(
        "arc_easy",
        ("id", "question", "choices", "answerKey"),
        ("train", "validation", "test"),
        hub_path="allenai/ai2_arc",
        hub_name="ARC-Easy",
    )
    stock = "arc_easy"
    comparable = True
