"""HumanEval+ (EvalPlus, arXiv 2305.01210) with stock lm-eval's prompt, executed in the sandbox."""

from __future__ import annotations

from dasd_bench.task import DataSource
from dasd_bench.tasks.stock_code import HumanEvalTask


class HumanEvalPlus(HumanEvalTask):
    """HumanEval with many more tests a problem. No answer passes HumanEval/32, whose published test is broken."""

    name = "humaneval_plus"
    summary = "HumanEval+ with stock lm-eval's prompt and EvalPlus's tests, in the sandbox"
    data = DataSource(
        "humanevalplus",
        ("task_id", "prompt", "canonical_solution", "test", "entry_point"),
        splits=("test",),
        hub_path="evalplus/humanevalplus",
    )
    stock = "humaneval_plus"
    comparable = True
