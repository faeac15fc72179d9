"""The border to task plugins: their hooks and the functions of their YAML are called through here.

What a task raises, and its ``sys.exit``, become one :class:`TaskError` with its file and line; what it prints goes to
standard error. The error fails the arm that the task was called for, or leaves the task out of the run where the base
model was measured; what was finished stays in the store. Hooks that this package's own task families call on one
another stay within one border. Stock lm-eval's functions are not wrapped.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from dasd_bench.errors import PluginError, TaskError
from dasd_bench.methods.plugin_calls import call, file_of
from dasd_bench.tasks.base import Row, Task
from dasd_bench.types import Example, Verdict

T = TypeVar("T")


def contained(task: Task, doing: str, function: Callable[..., T], *args: Any) -> T:
    """``function(*args)`` of a task; ``doing`` names it in the error. Raises :class:`TaskError`."""
    try:
        return call(f"{doing} of task '{task.name}'", file_of(task), function, *args)
    except PluginError as error:
        raise TaskError(str(error)) from error.__cause__ or error


def example(task: Task, row: Row, split: str, index: int) -> Example:
    """The row as an example."""
    given = contained(task, "example()", task.example, row, split, index)
    return _expected(task, "example", given, Example)


def restyle(task: Task, example: Example, style: str) -> str:
    """The example's reference in a style of the task."""
    return _expected(task, "restyle", contained(task, "restyle()", task.restyle, example, style), str)


def grade_all(task: Task, examples: Sequence[Example], texts: Sequence[str]) -> list[Verdict]:
    """The verdict on each text, in order."""
    given = contained(task, "grade_all()", task.grade_all, examples, texts)
    if not isinstance(given, (list, tuple)) or len(given) != len(texts):
        raise TaskError(f"{file_of(task)}: grade_all() of task '{task.name}' must return one Verdict per text.")
    return [_expected(task, "grade", one, Verdict) for one in given]


def grade_scored(task: Task, example: Example, text: str) -> Verdict:
    """The verdict on a completion that lm-eval scored."""
    return _expected(task, "grade", contained(task, "grade_scored()", task.grade_scored, example, text), Verdict)


def grade_ahead(task: Task, rows: Sequence[Row], texts: Sequence[str]) -> None:
    """Hands the task all completions of an evaluation."""
    contained(task, "grade_ahead()", task.grade_ahead, rows, texts)


def answer_spans(task: Task, example: Example, text: str) -> list[tuple[int, int]]:
    """Character spans of answer format in a text."""
    given = contained(task, "answer_spans()", lambda: list(task.answer_spans(example, text)))
    for span in given:
        if not isinstance(span, (list, tuple)) or [type(end) for end in span] != [int, int]:
            raise TaskError(f"{file_of(task)}: answer_spans() of task '{task.name}' must return pairs of integers.")
    return [(start, end) for start, end in given]


def functions_contained(task: Task, config: Any) -> Any:
    """A configuration whose functions are contained, at any depth."""
    if isinstance(config, dict):
        return {key: functions_contained(task, value) for key, value in config.items()}
    if isinstance(config, list):
        return [functions_contained(task, value) for value in config]
    if not inspect.isfunction(config):
        return config

    @functools.wraps(config)
    def wrapped(*args: Any, **options: Any) -> Any:
        return contained(task, f"{config.__name__}()", functools.partial(config, **options), *args)

    return wrapped


def _expected(task: Task, hook: str, given: object, kind: type[T]) -> T:
    if not isinstance(given, kind):
        found = "None" if given is None else f"a {type(given).__name__}"
        raise TaskError(f"{file_of(task)}: {hook}() of task '{task.name}' must return {kind.__name__}, not {found}.")
    return given
