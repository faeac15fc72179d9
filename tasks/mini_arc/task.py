"""Four-choice science questions, made for this project: needs no data and no network."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.families import ChoiceTask


class MiniArc(ChoiceTask):
    """Facts about animals, plants, tools, matter and sky; ARC's columns."""

    name = "mini_arc"
    summary = "552 four-choice science questions, built in; ARC's columns"
    data = DataSource("mini_arc", ("id", "question", "choices", "answerKey"))
    yaml = "mini_arc.yaml"
