"""Base classes for task plugins of one kind: worked numbers, worked mathematics, multiple choice.

A plugin of such a kind is a name, a data source and a YAML. The prompt of every example is lm-eval's own zero-shot
prompt, so training and evaluation see the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar

from dasd_bench.files.text import kind_of
from dasd_bench.methods.plugin_source import import_sibling
from dasd_bench.tasks.base import Row, Task
from dasd_bench.tasks.grading import (
    Verifier,
    extract_number,
    grade_choice,
    grade_math,
    grade_number,
    last_boxed,
    letters_shown,
    shared_verifier,
    strip_calculator_marks,
)
from dasd_bench.types import Example, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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
        made: dict[str, list[Row]] = import_sibling(self.folder, "rows").make_rows()
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

    text_columns: ClassVar[tuple[str, ...]] = ("question",)
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

    text_columns: ClassVar[tuple[str, ...]] = ("problem", "solution")
    answer_markers: ClassVar[tuple[str, ...]] = ("\\boxed",)
    rewrite_instruction: ClassVar[str] = (
        r"Write this solution again in your own words. End with the answer in \boxed{}."
    )
    subject_column: ClassVar[str] = "type"

    @cached_property
    def verifier(self) -> Verifier:
        """The math-verify processes, shared by all tasks and started when the first answer needs them."""
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

    def grade_all(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Verdict]:
        """The verdict on each completion, compared side by side."""
        return self.verifier.map(self.grade, examples, texts)

    def grade_ahead(self, rows: Sequence[Row], texts: Sequence[str]) -> None:
        """Compares all answers of an evaluation side by side; the verifier remembers."""
        golds = [last_boxed(str(row["solution"])) or "" for row in rows]
        self.verifier.map(partial(grade_math, verifier=self.verifier), texts, golds)


class ChoiceTask(LmEvalTask):
    """Multiple choice with columns ``question``, ``choices`` (``text``, ``label``) and ``answerKey``, as in ARC.

    The reference is the right choice's text: what lm-eval scores by log-likelihood.
    """

    text_columns: ClassVar[tuple[str, ...]] = ("question",)
    max_new_tokens: ClassVar[int | None] = None
    train_new_tokens: ClassVar[int] = 64
    metric: ClassVar[str] = "acc_norm"
    rewrite_instruction: ClassVar[str] = "Write the answer again and explain it in one sentence."

    def example(self, row: Row, split: str, index: int) -> Example:
        """The right choice's text as reference and answer."""
        choices = row["choices"]
        if not isinstance(choices, dict) or not all(isinstance(choices.get(key), list) for key in ("text", "label")):
            raise ValueError("'choices' must hold the lists 'text' and 'label'")
        labels = [str(label) for label in choices["label"]]
        texts = check_choices(choices["text"], len(labels))
        if len(set(labels)) != len(labels):
            raise ValueError(f"there is a duplicate among the labels {', '.join(labels)}")
        if str(row["answerKey"]) not in labels:
            raise ValueError(f"the answerKey '{row['answerKey']}' is not one of the labels {', '.join(labels)}")
        gold = labels.index(str(row["answerKey"]))
        base = self.make_example(row, split, index, self.reference_of(texts, labels, gold), texts[gold])
        base.extra.update(choices=texts, labels=labels, gold=gold)
        return base

    def reference_of(self, texts: list[str], labels: list[str], gold: int) -> str:
        """What is trained on: the right choice's text."""
        return texts[gold]

    def grade(self, example: Example, text: str) -> Verdict:
        """Right where the text holds the right choice alone, or names its letter."""
        return grade_labelled(example, text)


def grade_labelled(example: Example, text: str) -> Verdict:
    """The verdict on an answer to a question whose ``extra`` has ``choices``, ``labels`` and ``gold``."""
    choices, labels = example.extra["choices"], example.extra["labels"]
    lettered = letters_shown(example.prompt, choices, labels)
    return grade_choice(text, choices, labels, example.extra["gold"], lettered)


def check_choices(texts: Sequence[object], labels: int | None = None, gold: int = 0) -> list[str]:
    """The choices of a question as text.

    Raises :class:`ValueError` for what is no list, for fewer than two, for a blank one, for one that is no text, for
    another number of ``labels``, and where choice ``gold`` is none of them.
    """
    if not isinstance(texts, list | tuple):
        raise ValueError(f"the choices must be a list of texts, found {kind_of(texts)}")
    if labels is not None and len(texts) != labels:
        raise ValueError(f"it has {len(texts)} choices and {labels} labels")
    if len(texts) < 2:
        raise ValueError(f"it has {len(texts)} choices, but at least two are needed")
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise ValueError(f"choice {number} must be text, found {kind_of(text)}")
        if not text.strip():
            raise ValueError(f"choice {number} is blank")
    if not 0 <= gold < len(texts):
        raise ValueError(f"the correct choice is number {gold + 1} of {len(texts)}")
    return [str(text) for text in texts]
