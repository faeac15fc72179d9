"""MBPP+ (EvalPlus, arXiv 2305.01210) with stock lm-eval's prompt and all of its tests, executed in the sandbox."""

from __future__ import annotations

from dasd_bench.task import DataSource
from dasd_bench.tasks.stock_code import StockCodeTask


class MbppPlus(StockCodeTask):
    """Three fixed shots. Every test of MBPP+ runs; stock lm-eval runs the three that the prompt shows."""

    name = "mbpp_plus"
    summary = "MBPP+ with stock lm-eval's prompt and EvalPlus's own tests, in the sandbox"
    data = DataSource(
        "mbppplus", ("task_id", "prompt", "code", "test_list"), splits=("test",), hub_path="evalplus/mbppplus"
    )
    stock = "mbpp_plus"
