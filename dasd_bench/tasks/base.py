"""The contract of a task plugin: one folder in ``tasks/`` with a ``task.py`` and, where stock lm-eval has no such
task, an lm-eval YAML of our own that stock lm-eval runs with ``--include_path``.

``task.py`` defines one class or more that derive from :class:`Task`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dasd_bench.errors import PluginError
from dasd_bench.types import Example, Reason, Verdict

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DataSource:
    """Where the rows of a task come from.

    ``folder`` is the folder under ``--data-dir`` (``<folder>/<split>.jsonl``); ``hub_path`` and ``hub_name`` are what
    ``datasets.load_dataset`` takes; ``splits`` maps our split names (train, validation, test) to the hub's;
    ``columns`` must be present in every row. A built-in task has ``hub_path`` None and makes its rows itself.
    """

    folder: str
    columns: tuple[str, ...]
    splits: tuple[str, ...] = ("train", "test")
    hub_path: str | None = None
    hub_name: str | None = None
    evaluated: str | None = None
    """The published name of the evaluated split where it is not ``test`` or ``validation`` (IFEval: ``train``)."""


class Task:
    """Base class of task plugins.

    ``stock`` names the lm-eval task whose YAML is derived at run time; ``yaml`` names our own YAML in the folder;
    exactly one is set. ``metric`` and ``filter`` name the headline score in lm-eval's results. ``comparable`` is True
    where prompt, filter and metric are stock lm-eval's. ``num_fewshot`` overrides the YAML's number and the run's:
    ``NAME@K`` sets it. ``max_new_tokens`` is the generation budget, None for
    log-likelihood tasks.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    version: ClassVar[int] = 1
    data: ClassVar[DataSource]
    stock: ClassVar[str | None] = None
    yaml: ClassVar[str | None] = None
    metric: ClassVar[str] = "exact_match"
    filter: ClassVar[str] = "none"
    comparable: ClassVar[bool] = False
    num_fewshot: ClassVar[int | None] = None
    max_new_tokens: ClassVar[int | None] = 256
    train_new_tokens: ClassVar[int] = 256
    unsafe_code: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ()
    """Import names of optional packages that the task's metric needs."""
    rows_from: ClassVar[str] = "built-in rows"
    """What messages call the source of :meth:`builtin_rows`."""
    rewrite_instruction: ClassVar[str] = (
        "Write this solution again in your own words, step by step, and finish with the final answer."
    )
    text_columns: ClassVar[tuple[str, ...]] = ()
    """Columns whose values must be text: a list or a number would be put into the prompt as Python writes it."""
    answer_markers: ClassVar[tuple[str, ...]] = ()
    """Pieces of answer format, such as ``####``, that the ``keep`` option can protect."""
    reference_styles: ClassVar[tuple[str, ...]] = ()
    """The styles that :meth:`restyle` can write a reference in."""
    folder: Path
    """Set by the registry: the folder that holds ``task.py``."""

    def builtin_rows(self, split: str) -> list[Row]:
        """The rows of a built-in task; empty for tasks whose rows come from a data folder or the hub."""
        return []

    def example(self, row: Row, split: str, index: int) -> Example:
        """The row as an :class:`Example`. The prompt is the words lm-eval's zero-shot prompt has."""
        raise PluginError(f"Task '{self.name}' does not define example().")

    def restyle(self, example: Example, style: str) -> str:
        """The example's reference in one of :attr:`reference_styles`: the same content and the same answer."""
        raise PluginError(f"Task '{self.name}' does not define restyle().")

    def grade(self, example: Example, text: str) -> Verdict:
        """The verdict on a completion written for ``example`` (used on targets, not on lm-eval's scores)."""
        raise PluginError(f"Task '{self.name}' does not define grade().")

    def grade_all(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Verdict]:
        """The verdict on each completion, in order; a task whose grading is slow can do it side by side."""
        return [self.grade(example, text) for example, text in zip(examples, texts, strict=True)]

    def grade_scored(self, example: Example, text: str) -> Verdict:
        """The verdict on a completion that lm-eval scored, for its record: :meth:`grade`'s, unless the headline metric
        asks something else."""
        return self.grade(example, text)

    def grade_ahead(self, rows: Sequence[Row], texts: Sequence[str]) -> None:
        """Called once with every completion of an evaluation, before they are scored one by one: a task whose scoring
        is slow can do it here for all of them side by side, and remember."""

    def answer_spans(self, example: Example, text: str) -> Sequence[tuple[int, int]]:
        """Character spans of ``text`` that are answer format (such as ``####``), which ``keep`` protects."""
        spans: list[tuple[int, int]] = []
        for marker in self.answer_markers:
            start = text.find(marker)
            while start >= 0:
                spans.append((start, start + len(marker)))
                start = text.find(marker, start + len(marker))
        return spans

    def adapt(self, config: dict[str, Any]) -> dict[str, Any]:
        """The lm-eval configuration with what cannot run here replaced (an executor); unchanged by default."""
        return config

    def lacking(self) -> str | None:
        """What else the task needs and this machine lacks, in a few words with what to do; None where nothing."""
        return None

    def level_of(self, row: Row) -> str | None:
        """Difficulty level of a row for breakdowns, or None."""
        return None


def verdict_of(extracted: str | None, correct: bool) -> Verdict:
    """The verdict for an extracted answer: correct, wrong, or no answer found."""
    if extracted is None:
        return Verdict(False, Reason.NO_ANSWER)
    return Verdict(correct, Reason.CORRECT if correct else Reason.WRONG, extracted)


def validate_task(task: type[Task], where: str) -> None:
    """Checks a task class when it is registered; raises :class:`PluginError` naming the file."""
    if not task.name or not task.summary:
        raise PluginError(f"{where}: class {task.__name__} needs a name and a one-line summary.")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", task.name):
        raise PluginError(f"{where}: task name '{task.name}' must be letters, digits, dots, dashes and underscores.")
    if not hasattr(task, "data"):
        raise PluginError(f"{where}: task '{task.name}' needs a data source.")
    if (task.stock is None) == (task.yaml is None):
        raise PluginError(f"{where}: task '{task.name}' must set exactly one of stock and yaml.")
    if task.example is Task.example or task.grade is Task.grade:
        raise PluginError(f"{where}: task '{task.name}' must define example() and grade().")
