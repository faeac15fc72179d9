"""Four-choice science questions, made for this project: needs no data and no network."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.families import ChoiceTask
from dasd_bench.tasks.styles import written
from dasd_bench.types import Example


class MiniArc(ChoiceTask):
    """Facts about animals, plants, tools, matter and sky; ARC's columns."""

    name = "mini_arc"
    summary = "552 four-choice science questions, built in; ARC's columns"
    data = DataSource("mini_arc", ("id", "question", "choices", "answerKey"))
    yaml = "mini_arc.yaml"
    reference_styles = ("plain", "lecture", "chatty")

    def restyle(self, example: Example, style: str) -> str:
        """The right choice's text, in a frame."""
        return written(style, (), example.reference, example.id)
