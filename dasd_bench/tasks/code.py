"""Base class of tasks whose completions are programs, graded by running their tests in the sandbox."""

from __future__ import annotations

import weakref
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from dasd_bench.records import Example, Reason, Verdict
from dasd_bench.task import Row
from dasd_bench.tasks.families import LmEvalTask

if TYPE_CHECKING:
    from dasd_bench.sandbox import Sandbox


class CodeTask(LmEvalTask):
    """Problems with MBPP's columns. The sandbox starts when the first program is graded and ends with the task.

    ``exact_text`` True runs the completion as it is, as stock MBPP does; False takes the program out of fences and
    prose first, as a chat model needs.
    """

    unsafe_code: ClassVar[bool] = True
    exact_text: ClassVar[bool] = False
    rewrite_instruction: ClassVar[str] = "Write this program again in your own style. It must pass the same tests."

    @cached_property
    def sandbox(self) -> Sandbox:
        """The running sandbox."""
        from dasd_bench.sandbox import Sandbox

        started = Sandbox(workers=1).__enter__()
        weakref.finalize(self, started.__exit__, None, None, None)
        return started

    @cached_property
    def _verdicts(self) -> dict[tuple[str, str], Verdict]:
        return {}

    def example(self, row: Row, split: str, index: int) -> Example:
        """The reference program; the row's tests go along."""
        from dasd_bench.sandbox import problem_from_row

        problem_from_row(row)  # refuses a row without usable tests now, not after an hour of generation
        base = self.make_example(row, split, index, str(row["code"]).replace("\r\n", "\n"), None)
        base.extra["row"] = {key: value for key, value in row.items() if key != "level"}
        return base

    def grade(self, example: Example, text: str) -> Verdict:
        """Runs the program against its tests."""
        return self.verdict(example.extra["row"], text)

    def verdict(self, row: Row, text: str) -> Verdict:
        """The verdict on a completion for a row; the same completion is run once."""
        key = (str(row["task_id"]), text)
        if key not in self._verdicts:
            self._verdicts[key] = grade_code(row, text, self.sandbox, exact_text=self.exact_text)
        return self._verdicts[key]

    def adapt(self, config: dict[str, Any]) -> dict[str, Any]:
        """lm-eval's executor replaced by the sandbox: metric, prompt and shots stay."""
        metric = self.metric

        def process_results(doc: Row, results: list[str]) -> dict[str, float]:
            return {metric: float(self.verdict(doc, results[0]).correct)}

        return {**config, "process_results": process_results}


def grade_code(row: Row, text: str, sandbox: Sandbox, *, exact_text: bool = False) -> Verdict:
    """Runs the program in ``text`` against the tests of an MBPP or HumanEval row."""
    from dasd_bench.sandbox import Outcome, Sample, extract_code, problem_from_row

    problem = problem_from_row(row)
    code = text if exact_text else extract_code(text, problem.entry_point)
    if not code.strip():
        return Verdict(False, Reason.NO_ANSWER)
    result = sandbox.run([Sample(problem.task_id, code)], [problem])[0]
    if result.passed:
        return Verdict(True, Reason.CORRECT, code)
    reasons = {
        Outcome.TIMEOUT: Reason.TIMEOUT,
        Outcome.INFRASTRUCTURE_ERROR: Reason.INFRASTRUCTURE_ERROR,
        Outcome.SYNTAX_ERROR: Reason.NO_ANSWER,
    }
    reason = reasons.get(result.outcome, Reason.WRONG)
    return Verdict(False, reason, None if reason is Reason.NO_ANSWER else code)
