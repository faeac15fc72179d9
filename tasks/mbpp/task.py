"""MBPP as stock lm-eval has it (Austin and others, arXiv 2108.07732), in the sandbox; and its instruct form."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.stock_code import StockCodeTask

MBPP = DataSource(
    "mbpp",
    ("task_id", "text", "code", "test_list"),
    splits=("train", "validation", "test"),
    hub_path="google-research-datasets/mbpp",
    hub_name="full",
)


class Mbpp(StockCodeTask):
    """Three fixed shots; the text up to ``[DONE]`` is executed as it is."""

    name = "mbpp"
    summary = "crowd-sourced Python problems, 3-shot, stock lm-eval's mbpp in the sandbox"
    data = MBPP
    stock = "mbpp"
    comparable = True


class MbppInstruct(StockCodeTask):
    """The instruct prompt; the program is taken out of fences and prose, which stock lm-eval does in its own way."""

    name = "mbpp_instruct"
    summary = "MBPP with stock lm-eval's instruct prompt and this project's code extraction, in the sandbox"
    data = MBPP
    stock = "mbpp_instruct"
    exact_text = False


class Mbpp16(Mbpp):
    """16 sampled completions per problem; the unbiased pass@k. Stock lm-eval has no such form."""

    name = "mbpp_16"
    summary = "MBPP with 16 samples per problem: pass@1 to pass@16"
    comparable = False
    samples = 16
    ks = (1, 2, 4, 8, 16)
