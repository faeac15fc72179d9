"""Base classes for task plugins of one kind: worked numbers, worked mathematics, multiple choice.

A plugin of such a kind is a name, a data source and a YAML. The prompt of every example is lm-eval's own zero-shot
prompt, so training and evaluation see the same words.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

from dasd_bench.tasks.base import Row, Task
from dasd_bench.tasks.grading import (
    extract_number,
    grade_choice,
    grade_number,
    last_boxed,
    letters_shown,
    strip_calculator_marks,
)
from dasd_bench.tasks.mathematics import Verifier, grade_math, shared_verifier
from dasd_bench.types import Example, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable


class LmEvalTask(Task):
    """A task whose prompt is rendered from its YAML, and whose built-in rows come from ``rows.py`` beside it."""

    @cached_property
    def prompt_of(self) -> Callable[[Row], str]:
        """Gives lm-eval's zero-shot prompt of a row."""
        from dasd_bench.tasks.derive import prompt_renderer

        return prompt_renderer(self)

    @cached_property
    def _builtin(self) -> dict[str, list[Row]]:
        if not (self.folder / "rows.py").is_file():
            return {}
        made: dict[str, list[Row]] = sibling(self.folder, "rows").make_rows()
        return made

    def builtin_rows(self, split: str) -> list[Row]:
        """The rows that ``rows.py`` beside the plugin makes; none where there is no such file."""
        return list(self._builtin.get(split, []))

    def make_example(
        self, row: Row, split: str, index: int, reference: str, answer: str | None, subject: str | None = None
    ) -> Example:
        """An example with the task's prompt and id."""
        return Example(
            id=f"{self.name}/{split}/{index}",
            task=self.name,
            prompt=self.prompt_of(row),
            reference=reference,
            answer=answer,
            level=self.level_of(row),
            subject=subject,
        )

    def level_of(self, row: Row) -> str | None:
        """The column ``level``, where there is one."""
        return None if row.get("level") is None else str(row["level"])


class NumberTask(LmEvalTask):
    """Word problems with columns ``question`` and ``answer``, the answer ending in ``#### n`` as in GSM8K.

    References have GSM8K's calculator marks ``<<...>>`` left out: they are an artefact of how the set was written,
    and a model trained on them writes them.
    """

    answer_markers: ClassVar[tuple[str, ...]] = ("####",)
    rewrite_instruction: ClassVar[str] = "Write this solution again in your own words. End with #### and the answer."

    def example(self, row: Row, split: str, index: int) -> Example:
        """A worked reference and the number after ``####``."""
        worked, marker, final = strip_calculator_marks(str(row["answer"])).rpartition("####")
        if not marker or extract_number(final) is None:
            raise ValueError("the answer does not end in '#### n'")
        return self.make_example(
            row, split, index, self.reference_of(worked, final.strip()), final.strip(), self.subject_of(row)
        )

    def reference_of(self, worked: str, final: str) -> str:
        """What is trained on: the worked steps and the final number, as the task's shots put them."""
        return f"{worked}#### {final}"

    def subject_of(self, row: Row) -> str | None:
        """Kind of problem for breakdowns, or None."""
        return None

    def grade(self, example: Example, text: str) -> Verdict:
        """Compares the number the text ends on."""
        return grade_number(text, str(example.answer))


class MathTask(LmEvalTask):
    r"""Problems with columns ``problem`` and ``solution``, the solution ending in ``\boxed{...}`` as in MATH."""

    answer_markers: ClassVar[tuple[str, ...]] = ("\\boxed",)
    rewrite_instruction: ClassVar[str] = (
        r"Write this solution again in your own words. End with the answer in \boxed{}."
    )
    subject_column: ClassVar[str] = "type"

    @cached_property
    def verifier(self) -> Verifier:
        """The math-verify process, shared by all tasks and started when the first answer needs it."""
        return shared_verifier()

    def example(self, row: Row, split: str, index: int) -> Example:
        r"""A worked reference and the inside of its last ``\boxed{}``."""
        reference = str(row["solution"])
        final = last_boxed(reference)
        if final is None:
            raise ValueError("the solution has no \\boxed answer")
        subject = row.get(self.subject_column)
        return self.make_example(
            row, split, index, self.reference_of(reference, final), final, None if subject is None else str(subject)
        )

    def reference_of(self, solution: str, final: str) -> str:
        """What is trained on: the solution, ending as the task's shots end."""
        return solution

    def level_of(self, row: Row) -> str | None:
        """MATH's level without the word: ``Level 5`` and MATH-500's ``5`` are one group."""
        level = super().level_of(row)
        return None if level is None else level.removeprefix("Level ")

    def grade(self, example: Example, text: str) -> Verdict:
        """Compares the final answer as mathematics, within a time limit."""
        return grade_math(text, str(example.answer), self.verifier)


class ChoiceTask(LmEvalTask):
    """Multiple choice with columns ``question``, ``choices`` (``text``, ``label``) and ``answerKey``, as in ARC.

    The reference is the right choice's text: what lm-eval scores by log-likelihood.
    """

    max_new_tokens: ClassVar[int | None] = None
    train_new_tokens: ClassVar[int] = 64
    metric: ClassVar[str] = "acc_norm"
    rewrite_instruction: ClassVar[str] = "Write the answer again and explain it in one sentence."

    def example(self, row: Row, split: str, index: int) -> Example:
        """The right choice's text as reference and answer."""
        texts, labels = [str(t) for t in row["choices"]["text"]], [str(t) for t in row["choices"]["label"]]
        gold = labels.index(str(row["answerKey"]))
        base = self.make_example(row, split, index, self.reference_of(texts, labels, gold), texts[gold])
        base.extra.update(choices=texts, labels=labels, gold=gold)
        return base

    def reference_of(self, texts: list[str], labels: list[str], gold: int) -> str:
        """What is trained on: the right choice's text."""
        return texts[gold]

    def grade(self, example: Example, text: str) -> Verdict:
        """Right where the text holds the right choice alone, or names its letter."""
        choices, labels = example.extra["choices"], example.extra["labels"]
        lettered = letters_shown(example.prompt, choices, labels)
        return grade_choice(text, choices, labels, example.extra["gold"], lettered)


def sibling(folder: Path, name: str) -> ModuleType:
    """The module ``<folder>/<name>.py`` of a plugin folder, which is not on ``sys.path``; imported once."""
    path = (folder / f"{name}.py").resolve()
    key = f"_dasd_bench_{name}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module
        spec.loader.exec_module(module)
    return sys.modules[key]
