"""HumanEval as stock lm-eval has it (Chen and others, arXiv 2107.03374), executed in the sandbox."""

from __future__ import annotations

from dasd_bench.task import DataSource
from dasd_bench.tasks.stock_code import HumanEvalTask


class HumanEval(HumanEvalTask):
    """Zero-shot: the model goes on from the function's head."""

    name = "humaneval"
    summary = "164 functions to complete, 0-shot, stock lm-eval's humaneval in the sandbox"
    data = DataSource(
        "humaneval",
        ("task_id", "prompt", "canonical_solution", "test", "entry_point"),
        splits=("test",),
        hub_path="openai/openai_humaneval",
    )
    stock = "humaneval"
    comparable = True
