"""Stock lm-eval's code tasks with the sandbox as their executor: MBPP, MBPP+, HumanEval, HumanEval+.

Prompt, shots and stop strings are the installed YAML's; its executor (``code_eval`` of ``evaluate``, fetched from the
hub, which a completion can fool) is replaced. The text that is executed is the one stock lm-eval executes;
in the instruct forms it is the program that is found in the answer.
"""

from __future__ import annotations

from typing import Any, ClassVar

from dasd_bench.tasks.base import Row
from dasd_bench.tasks.code import CodeTask, metric_name
from dasd_bench.types import Example

#: How stock lm-eval samples in ``humaneval_64``.
SAMPLING = {"do_sample": True, "temperature": 0.2, "top_p": 0.95}

#: Fewest lines and name of the levels. Every number for itself would be groups of one to five problems.
LENGTHS = ((0, "1-3"), (4, "4-6"), (7, "7-10"), (11, "11+"))


class StockCodeTask(CodeTask):
    """A stock code task: the completion runs as it is, or after extraction where ``exact_text`` is False.

    ``samples`` completions are drawn per problem, one greedily and more by sampling."""

    metric: ClassVar[str] = "pass_at_1"
    filter: ClassVar[str] = "none"
    exact_text: ClassVar[bool] = True
    samples: ClassVar[int] = 1

    def adapt(self, config: dict[str, Any]) -> dict[str, Any]:
        """The metric computed by the sandbox, from as many completions as ``samples`` or the YAML says; the filter that
        glued prompt and tests together is not needed."""
        adapted = super().adapt(config)
        names = [metric_name(k) for k in self.ks]
        adapted["metric_list"] = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in names]
        adapted["filter_list"] = None
        if self.samples > 1:
            adapted["repeats"] = self.samples
            adapted["generation_kwargs"] = {**config["generation_kwargs"], **SAMPLING}
            every = {"function": "take_first_k", "k": self.samples}
            adapted["filter_list"] = [{"name": self.filter, "filter": [every]}]
        return adapted

    def level_of(self, row: Row) -> str | None:
        """Lines of the reference program that are not blank, as a measure of difficulty: one of :data:`LENGTHS`."""
        gold = str(row.get("canonical_solution") or row.get("code") or "")
        count = sum(bool(line.strip()) for line in gold.splitlines())
        return next(name for least, name in reversed(LENGTHS) if count >= least)


class HumanEvalTask(StockCodeTask):
    """HumanEval's columns: the completion goes on from the prompt, or is a program of its own behind it."""

    text_columns: ClassVar[tuple[str, ...]] = ("prompt", "canonical_solution")
    max_new_tokens: ClassVar[int | None] = 1024

    def example(self, row: Row, split: str, index: int) -> Example:
        """The canonical continuation of the prompt; evaluated only, there is no train split."""
        example = self.make_example(row, split, index, str(row["canonical_solution"]), None)
        example.extra["row"] = dict(row)
        return example
