"""One-function Python problems, made for this project: needs no data and no network. Runs model-written code."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.code import CodeTask


class MiniMbpp(CodeTask):
    """Small functions on numbers, texts and lists; MBPP's columns."""

    name = "mini_mbpp"
    summary = "300 one-function Python problems of three levels, built in; MBPP's columns"
    data = DataSource("mini_mbpp", ("task_id", "text", "code", "test_list"))
    yaml = "mini_mbpp.yaml"
    metric = "pass_at_1"
    max_new_tokens = 192
    train_new_tokens = 128
