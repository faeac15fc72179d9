"""Reference styles: other words around the same steps and the same answer."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dasd_bench.errors import UsageError
from dasd_bench.registry import discover
from dasd_bench.tasks.base import Task
from dasd_bench.tasks.loading import examples_of, load_rows
from dasd_bench.tasks.styles import STYLES, written
from dasd_bench.types import Example

STYLED = ("mini_gsm", "mini_math", "mini_arc")
NUMBER = re.compile(r"\d+")


def examples(name: str) -> tuple[Task, list[Example]]:
    task = discover().task(name).item
    return task, [e for split in ("train", "test") for e in examples_of(task, load_rows(task, split), split)]


@pytest.mark.parametrize("name", STYLED)
def test_every_reference_is_right_in_every_style(name: str) -> None:
    task, every = examples(name)
    every = every[::5]
    for style in task.reference_styles:
        verdicts = task.grade_all(every, [task.restyle(example, style) for example in every])
        wrong = [example.id for example, verdict in zip(every, verdicts, strict=True) if not verdict.correct]
        assert not wrong, style


@pytest.mark.parametrize("name", STYLED)
def test_styles_differ_in_words_and_not_in_numbers(name: str) -> None:
    task, every = examples(name)
    for example in every[:150]:
        texts = [task.restyle(example, style) for style in task.reference_styles]
        assert len(set(texts)) == len(texts)
        numbers = [NUMBER.findall(text) for text in texts]
        assert all(one == numbers[0] for one in numbers)


def test_the_steps_of_mini_math_are_true_equations() -> None:
    """Completing ``7*8=56; +3`` must not make a false statement: every side without a letter or LaTeX is computed."""
    task, every = examples("mini_math")
    checked = 0
    for example in every:
        for step in task.restyle(example, "plain").splitlines()[:-1]:
            sides = [side for side in step.split("=") if side and not re.search(r"[A-Za-z\\>]", side)]
            values = {round(eval(re.sub(r"(\d+)", r"\1.0", side)), 6) for side in sides}  # our own rows
            assert len(values) <= 1, (example.id, step)
            checked += len(sides) > 1
    assert checked > 500


def test_a_row_always_reads_the_same_and_rows_read_differently() -> None:
    task, every = examples("mini_gsm")
    openings = set()
    for example in every[:60]:
        text = task.restyle(example, "lecture")
        assert text == task.restyle(replace(example), "lecture")
        openings.add(text.partition(".")[0])
    assert len(openings) >= 4


@given(
    st.sampled_from(sorted(STYLES)),
    st.lists(st.from_regex(r"[0-9]{1,3} [+x-] [0-9]{1,3} = [0-9]{1,4}", fullmatch=True), max_size=4),
    st.text(st.characters(categories=("Nd", "Lu")), min_size=1, max_size=8),
    st.text(max_size=10),
)
def test_steps_and_answer_stand_in_order(style: str, steps: list[str], final: str, key: str) -> None:
    text = written(style, steps, f"#### {final}", key)
    place = 0
    for part in (*steps, f"#### {final}"):
        place = text.index(part, place) + len(part)
    assert text.endswith(f"#### {final}")


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(UsageError, match=r"lectern.*lecture"):
        written("lectern", [], "#### 1", "")
