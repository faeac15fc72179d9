"""Small word problems with worked answers, made for this project: needs no data and no network."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.families import NumberTask


class MiniGsm(NumberTask):
    """Word problems of one to three steps; GSM8K's columns."""

    name = "mini_gsm"
    summary = "480 small word problems of one to three steps, built in; GSM8K's columns"
    data = DataSource("mini_gsm", ("question", "answer"))
    yaml = "mini_gsm.yaml"
    filter = "flexible-extract"
    max_new_tokens = 160
    train_new_tokens = 128
