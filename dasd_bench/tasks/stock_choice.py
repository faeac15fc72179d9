"""Base class of stock lm-eval's log-likelihood tasks that are only evaluated, each with columns of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dasd_bench.errors import PluginError
from dasd_bench.tasks.base import Row, Task
from dasd_bench.tasks.families import check_choices, grade_labelled
from dasd_bench.types import Example, Verdict

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True, slots=True)
class ChoiceParts:
    """One question in words: its prompt, its choices, and which is right."""

    prompt: str
    choices: Sequence[str]
    gold: int


class StockChoiceTask(Task):
    """A multiple-choice set without a train split here. A plugin says how a row reads; lm-eval's YAML does the rest."""

    metric: ClassVar[str] = "acc"
    comparable: ClassVar[bool] = True
    max_new_tokens: ClassVar[int | None] = None
    subject_column: ClassVar[str | None] = None

    def parts(self, row: Row) -> ChoiceParts:
        """The question as words; every plugin defines it. Raises :class:`PluginError` for one that does not."""
        raise PluginError(f"Task '{self.name}' does not define parts().")

    def example(self, row: Row, split: str, index: int) -> Example:
        """The question with the right choice's text as reference and answer."""
        parts = self.parts(row)
        choices = check_choices(parts.choices, gold=parts.gold)
        answer = choices[parts.gold]
        labels = [chr(ord("A") + number) for number in range(len(choices))]
        return Example(
            id=f"{self.name}/{split}/{index}",
            task=self.name,
            prompt=parts.prompt,
            reference=answer,
            answer=answer,
            subject=None if self.subject_column is None else str(row[self.subject_column]),
            extra={"choices": choices, "labels": labels, "gold": parts.gold},
        )

    def grade(self, example: Example, text: str) -> Verdict:
        """Right where the text holds the right choice alone, or names its letter."""
        return grade_labelled(example, text)


def with_columns(config: dict[str, Any], add: Callable[[Row], Row]) -> dict[str, Any]:
    """The lm-eval configuration with columns made from the others before its own processing sees a row."""
    process = config.get("process_docs")

    def process_docs(dataset: datasets.Dataset) -> datasets.Dataset:
        made = dataset.map(lambda row: {**row, **add(row)})
        return process(made) if process is not None else made

    return {**config, "process_docs": process_docs}
