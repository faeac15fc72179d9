"""MBPP+ (EvalPlus, arXiv 2305.01210) with stock lm-eval's prompts and all of its tests, executed in the sandbox."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.stock_code import StockCodeTask

MBPP_PLUS = DataSource(
    "mbppplus", ("task_id", "prompt", "code", "test_list"), splits=("test",), hub_path="evalplus/mbppplus"
)


class MbppPlus(StockCodeTask):
    """Three fixed shots. Every test of MBPP+ runs; stock lm-eval runs the three that the prompt shows."""

    name = "mbpp_plus"
    summary = "MBPP+ with stock lm-eval's prompt and EvalPlus's own tests, in the sandbox"
    data = MBPP_PLUS
    stock = "mbpp_plus"


class MbppPlusInstruct(StockCodeTask):
    """Zero-shot, one test shown; the program is taken out of fences and prose. Every test of MBPP+ runs."""

    name = "mbpp_plus_instruct"
    summary = "MBPP+ with stock lm-eval's instruct prompt, own code extraction and EvalPlus's tests, in the sandbox"
    data = MBPP_PLUS
    stock = "mbpp_plus_instruct"
    max_new_tokens = 1024
    exact_text = False
