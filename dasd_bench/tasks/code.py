"""Base class of tasks whose completions are programs, graded by running their tests in the sandbox."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from dasd_bench.errors import DasdError, DataError, UsageError
from dasd_bench.tasks.base import Row
from dasd_bench.tasks.families import LmEvalTask
from dasd_bench.types import Example, Reason, Verdict

if TYPE_CHECKING:
    from dasd_bench.sandbox import ExecResult, Sandbox


class CodeTask(LmEvalTask):
    """Problems with MBPP's columns. The sandbox starts when the first program is graded and ends with the task.

    ``exact_text`` True runs the completion as it is, as stock MBPP does; False takes the program out of fences and
    prose first, as a chat model needs. ``ks`` are the k of pass@k that are reported, each at most the number of
    completions per problem; pass@1 is the headline: the share that passes.
    """

    unsafe_code: ClassVar[bool] = True
    text_columns: ClassVar[tuple[str, ...]] = ("code",)
    exact_text: ClassVar[bool] = False
    ks: ClassVar[tuple[int, ...]] = (1,)
    rewrite_instruction: ClassVar[str] = "Write this program again in your own style. It must pass the same tests."

    @cached_property
    def sandbox(self) -> Sandbox:
        """The running sandbox."""
        from dasd_bench.sandbox import Sandbox

        with sandbox_errors():
            started = Sandbox().__enter__()
        weakref.finalize(self, started.__exit__, None, None, None)
        return started

    @cached_property
    def _verdicts(self) -> dict[tuple[str, str], Verdict]:
        return {}

    def example(self, row: Row, split: str, index: int) -> Example:
        """The reference program; the row's tests go along."""
        from dasd_bench.sandbox import problem_from_row

        with sandbox_errors():
            problem_from_row(row)  # refuses a row without usable tests now, not after an hour of generation
        base = self.make_example(row, split, index, str(row["code"]).replace("\r\n", "\n"), None)
        base.extra["row"] = {key: value for key, value in row.items() if key != "level"}
        return base

    def grade(self, example: Example, text: str) -> Verdict:
        """Runs the program against its tests."""
        return self.verdict(example.extra["row"], text)

    def grade_all(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Verdict]:
        """Runs all programs in one go, over all cores."""
        self.grade_ahead([example.extra["row"] for example in examples], texts)
        return super().grade_all(examples, texts)

    def grade_ahead(self, rows: Sequence[Row], texts: Sequence[str]) -> None:
        """Runs all programs in one go, over all cores."""
        pairs = {(str(row["task_id"]), text): row for row, text in zip(rows, texts, strict=True)}
        new = [(row, text) for (key, text), row in pairs.items() if (key, text) not in self._verdicts]
        verdicts = grade_codes(new, self.sandbox, exact_text=self.exact_text)
        for (row, text), verdict in zip(new, verdicts, strict=True):
            self._verdicts[(str(row["task_id"]), text)] = verdict

    def verdict(self, row: Row, text: str) -> Verdict:
        """The verdict on a completion for a row; the same completion is run once."""
        key = (str(row["task_id"]), text)
        if key not in self._verdicts:
            self.grade_ahead([row], [text])
        return self._verdicts[key]

    def adapt(self, config: dict[str, Any]) -> dict[str, Any]:
        """lm-eval's executor replaced by the sandbox: metric, prompt and shots stay."""

        def process_results(doc: Row, results: list[Any]) -> dict[str, float]:
            texts = results[0] if isinstance(results[0], list) else results
            return self.scores(doc, texts)

        return {**config, "process_results": process_results}

    def scores(self, row: Row, texts: Sequence[str]) -> dict[str, float]:
        """The metrics of a row from one completion or several: pass@k for each k of ``ks``, under lm-eval's names."""
        from dasd_bench.sandbox import pass_at_k

        passed = sum(self.verdict(row, text).correct for text in texts)
        return {metric_name(k): pass_at_k(len(texts), passed, k) for k in self.ks}


@contextlib.contextmanager
def sandbox_errors() -> Iterator[None]:
    """Turns what the sandbox raises into this package's errors: it is used alone, too, and knows none of them."""
    from dasd_bench.sandbox import ProblemError, SandboxError, SettingError

    try:
        yield
    except SettingError as error:
        raise UsageError(str(error)) from error
    except ProblemError as error:
        raise DataError(str(error)) from error
    except SandboxError as error:
        raise DasdError(str(error)) from error


def metric_name(k: int) -> str:
    """The name of pass@k in results, as lm-eval's ``pass_at_1``."""
    return f"pass_at_{k}"


def grade_codes(pairs: Sequence[tuple[Row, str]], sandbox: Sandbox, *, exact_text: bool = False) -> list[Verdict]:
    """A verdict per row and text; all programs are in the sandbox at once, as many as it has workers."""
    from dasd_bench.sandbox import Sample, extract_code, problem_from_row

    with sandbox_errors():
        problems = {str(row["task_id"]): problem_from_row(row) for row, _ in pairs}
    codes, samples, where = [], [], []
    for row, text in pairs:
        problem = problems[str(row["task_id"])]
        prompt = problem.prompt if problem.kind == "humaneval" else ""
        codes.append(text if exact_text else extract_code(text, problem.entry_point, prompt))
        if codes[-1].strip():
            where.append(len(codes) - 1)
            samples.append(Sample(problem.task_id, codes[-1]))
    verdicts = [Verdict(False, Reason.NO_ANSWER)] * len(codes)
    with sandbox_errors():
        results = sandbox.run(samples, problems)
    for index, result in zip(where, results, strict=True):
        verdicts[index] = _verdict(result, codes[index])
    return verdicts


def _verdict(result: ExecResult, code: str) -> Verdict:
    from dasd_bench.sandbox import Outcome

    if result.passed:
        return Verdict(True, Reason.CORRECT, code)
    reasons = {
        Outcome.TIMEOUT: Reason.TIMEOUT,
        Outcome.INFRASTRUCTURE_ERROR: Reason.INFRASTRUCTURE_ERROR,
        Outcome.SYNTAX_ERROR: Reason.NO_ANSWER,
    }
    reason = reasons.get(result.outcome, Reason.WRONG)
    return Verdict(False, reason, None if reason is Reason.NO_ANSWER else code)
