"""ARC-Challenge as stock lm-eval has it (Clark and others, arXiv 1803.05457)."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.families import ChoiceTask


class ArcChallenge(ChoiceTask):
    """Grade-school science questions by log-likelihood of the choices; shots with --num-fewshot."""

    name = "arc_challenge"
    summary = "science questions, the harder questions, multiple choice, 0-shot, stock lm-eval's arc_challenge"
    data = DataSource(
        "arc_challenge",
        ("id", "question", "choices", "answerKey"),
        ("train", "validation", "test"),
        hub_path="allenai/ai2_arc",
        hub_name="ARC-Challenge",
    )
    stock = "arc_challenge"
    comparable = True
