"""lm-eval's minerva_math: its prompt, shots and normalisation, graded by math-verify in a process with a time limit.

Stock lm-eval grades in its own process, under a signal that sympy can outlive, and wants an ANTLR runtime that
math-verify's does not go with. What differs is written in docs/tasks.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from dasd_bench.tasks.base import Row, verdict_of
from dasd_bench.tasks.families import MathTask
from dasd_bench.tasks.grading import extract_math
from dasd_bench.types import Example, Reason, Verdict


class MinervaTask(MathTask):
    """The headline ``math_verify`` is stock's call on the same texts; ``exact_match`` wants the shots' last words."""

    metric: ClassVar[str] = "math_verify"
    answer_markers: ClassVar[tuple[str, ...]] = (
        "\\boxed",
        "Final Answer: The final answer is",
        "I hope it is correct.",
    )
    train_new_tokens: ClassVar[int] = 384

    def reference_of(self, solution: str, final: str) -> str:
        """The solution and the sentence that the shots end on."""
        return f"{solution}\nFinal Answer: The final answer is ${final}$. I hope it is correct."

    def example(self, row: Row, split: str, index: int) -> Example:
        """The solution as it was published goes with it: stock reads the right answer from that."""
        example = super().example(row, split, index)
        example.extra["solution"] = str(row["solution"])
        return example

    def grade_scored(self, example: Example, text: str) -> Verdict:
        """The headline's own question, which the score has asked before: no answer in time is no wrong answer."""
        found = extract_math(text, str(example.answer))
        reason = self.verifier.same_text(example.extra["solution"], text)
        if reason in (Reason.CORRECT, Reason.WRONG):
            return verdict_of(found, reason is Reason.CORRECT)
        return Verdict(False, reason, found)

    def grade_ahead(self, rows: Sequence[Row], texts: Sequence[str]) -> None:
        """Asks the headline's questions of an evaluation side by side; the verifier remembers."""
        self.verifier.map(self.verifier.same_text, [str(row["solution"]) for row in rows], texts)

    def adapt(self, config: dict[str, Any]) -> dict[str, Any]:
        """Stock's ``process_results`` with its comparisons done by the verifier."""
        stock = config["process_results"].__globals__
        answer_in, normal = stock["get_unnormalized_answer"], stock["normalize_final_answer"]

        def process_results(doc: Row, results: list[str]) -> dict[str, int]:
            answer = normal(answer_in(results[0]))
            exact = answer == doc["answer"] or self.verifier.difference_is_zero(answer, doc["answer"]) is Reason.CORRECT
            return {
                "exact_match": int(exact),
                "math_verify": int(self.verifier.same_text(doc["solution"], results[0]) is Reason.CORRECT),
            }

        return {**config, "process_results": process_results}
