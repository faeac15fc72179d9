"""IFEval as stock lm-eval has it (Zhou and others, arXiv 2311.07911)."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cached_property
from typing import Any

from dasd_bench.errors import DataError
from dasd_bench.tasks import derive
from dasd_bench.tasks.base import DataSource, Row, Task, verdict_of
from dasd_bench.types import Example, Verdict

Score = Callable[[Row, list[str]], dict[str, Any]]
"""lm-eval's metrics of a row, by name, from what the model wrote."""


def repeatable(score: Score) -> Score:
    """``score`` with the same random numbers at every call, and Python's generator left as it was.

    lm-eval's checkers draw what they do not find among a row's arguments. Some rows count the letter ``#`` or ``!``,
    which is none to the checker: it counts another one, which would be a different one each time.
    """

    def scored(row: Row, texts: list[str]) -> dict[str, Any]:
        before = random.getstate()
        random.seed(0)
        try:
            return score(row, texts)
        finally:
            random.setstate(before)

    return scored


class IfEval(Task):
    """Instructions whose keeping a program can check; the checkers are lm-eval's own.

    They need the extra ``ifeval`` (langdetect, immutabledict, nltk) and nltk's ``punkt_tab``.
    """

    name = "ifeval"
    summary = "verifiable instructions, stock lm-eval's ifeval, needs the extra 'ifeval' (retention)"
    data = DataSource(
        "ifeval",
        ("key", "prompt", "instruction_id_list", "kwargs"),
        ("test",),
        hub_path="google/IFEval",
        evaluated="train",
    )
    text_columns = ("prompt",)
    stock = "ifeval"
    metric = "prompt_level_strict_acc"
    comparable = True
    max_new_tokens = 1280
    packages = ("langdetect", "immutabledict", "nltk")

    def lacking(self) -> str | None:
        """nltk's sentence model, which lm-eval's checkers would fetch from the network when they are imported."""
        import nltk

        try:
            nltk.data.find("tokenizers/punkt_tab")
        except LookupError:
            return "needs nltk's punkt_tab: python -m nltk.downloader punkt_tab, or set NLTK_DATA to its folder"
        return None

    def example(self, row: Row, split: str, index: int) -> Example:
        """The instructions; there is no reference answer."""
        return Example(
            id=f"{self.name}/{split}/{index}",
            task=self.name,
            prompt=str(row["prompt"]),
            reference="",
            subject=str(row["instruction_id_list"][0]).partition(":")[0],
            extra={"row": dict(row)},
        )

    @cached_property
    def _config(self) -> dict[str, Any]:
        return derive.config_of(self)

    def adapt(self, config: dict[str, Any]) -> dict[str, Any]:
        """The YAML as it is; its checkers made repeatable."""
        if (missing := self.lacking()) is not None:
            raise DataError(f"Task 'ifeval' {missing}.")
        import langdetect

        # langdetect draws random numbers: the same text would be English once and not the next time.
        langdetect.DetectorFactory.seed = 0
        return {**config, "process_results": repeatable(config["process_results"])}

    def grade(self, example: Example, text: str) -> Verdict:
        """Right where every instruction is kept, by lm-eval's strict rule."""
        found = self._config["process_results"](example.extra["row"], [text])
        return verdict_of(text if text.strip() else None, bool(found["prompt_level_strict_acc"]))
