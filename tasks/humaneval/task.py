"""HumanEval as stock lm-eval has it (Chen and others, arXiv 2107.03374), in the sandbox; and its instruct form."""

from __future__ import annotations

from dasd_bench.tasks.base import DataSource
from dasd_bench.tasks.stock_code import HumanEvalTask

HUMANEVAL = DataSource(
    "humaneval",
    ("task_id", "prompt", "canonical_solution", "test", "entry_point"),
    splits=("test",),
    hub_path="openai/openai_humaneval",
)


class HumanEval(HumanEvalTask):
    """Zero-shot: the model goes on from the function's head."""

    name = "humaneval"
    summary = "164 functions to complete, 0-shot, stock lm-eval's humaneval in the sandbox"
    data = HUMANEVAL
    stock = "humaneval"
    comparable = True


class HumanEvalInstruct(HumanEvalTask):
    """The problem as a question; the answer is begun with the function's head, and the model goes on from there or
    writes the whole function. Stock lm-eval runs what is before the answer's first fence."""

    name = "humaneval_instruct"
    summary = "HumanEval with stock lm-eval's instruct prompt and this project's code extraction, in the sandbox"
    data = HUMANEVAL
    stock = "humaneval_instruct"
    exact_text = False


class HumanEval64(HumanEval):
    """64 sampled completions per problem, as stock lm-eval's ``humaneval_64``; the unbiased pass@k."""

    name = "humaneval_64"
    summary = "HumanEval with 64 samples per problem: pass@1 to pass@64, stock lm-eval's humaneval_64 in the sandbox"
    stock = "humaneval_64"
    samples = 64
    ks = (1, 2, 8, 16, 32, 64)
