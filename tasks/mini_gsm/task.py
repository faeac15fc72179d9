"""Small word problems with worked answers, made for this project: needs no data and no network."""

from __future__ import annotations

import re

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.families import NumberTask
from dasd_bench.tasks.styles import STYLES, written
from dasd_bench.types import Example


class MiniGsm(NumberTask):
    """Word problems of one to three steps; GSM8K's columns."""

    name = "mini_gsm"
    summary = "480 small word problems of one to three steps, built in; GSM8K's columns"
    data = DataSource("mini_gsm", ("question", "answer"))
    yaml = "mini_gsm.yaml"
    filter = "flexible-extract"
    max_new_tokens = 160
    train_new_tokens = 128
    reference_styles = tuple(STYLES)

    def restyle(self, example: Example, style: str) -> str:
        """The steps behind ``s1:``, ``s2:`` and the number behind ``####``, written anew."""
        worked, _, final = example.reference.rpartition("####")
        steps = re.split(r"; s\d+: ", worked.strip().removeprefix("s1: "))
        return written(style, steps, f"#### {final.strip()}", example.id)
