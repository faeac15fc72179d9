"""HumanEval+ (EvalPlus, arXiv 2305.01210) with stock lm-eval's prompts, executed in the sandbox."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.stock_code import HumanEvalTask

HUMANEVAL_PLUS = DataSource(
    "humanevalplus",
    ("task_id", "prompt", "canonical_solution", "test", "entry_point"),
    splits=("test",),
    hub_path="evalplus/humanevalplus",
)


class HumanEvalPlus(HumanEvalTask):
    """HumanEval with many more tests a problem. No answer passes HumanEval/32, whose published test is broken."""

    name = "humaneval_plus"
    summary = "HumanEval+ with stock lm-eval's prompt and EvalPlus's tests, in the sandbox"
    data = HUMANEVAL_PLUS
    stock = "humaneval_plus"
    comparable = True


class HumanEvalPlusInstruct(HumanEvalTask):
    """HumanEval's instruct prompt on the rows of HumanEval+; stock lm-eval has no such form."""

    name = "humaneval_plus_instruct"
    summary = "HumanEval+ with the prompt of stock lm-eval's humaneval_instruct and own code extraction, in the sandbox"
    data = HUMANEVAL_PLUS
    stock = "humaneval_instruct"
    exact_text = False
