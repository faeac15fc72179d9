"""Edits whose kind is known: corrections of worked numbers and programs, changes of style."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.methods.edits import arithmetic, changed_tokens, programs, wording
from dasd_bench.methods.edits.edited import Edited, replaced, undone


def marked(edited: Edited) -> list[str]:
    """The changed places as text."""
    return [edited.after[start:end] for start, end in edited.spans]


@given(st.text(max_size=30), st.data())
def test_spans_are_where_the_new_text_stands_and_all_else_is_the_old(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6, unique=True)))
    parts = [(a, b, data.draw(st.text(max_size=4))) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    edited = replaced(text, parts)
    assert marked(edited) == [new for _, _, new in parts]
    rest = list(edited.after)
    for start, end in reversed(edited.spans):
        del rest[start:end]
    kept = list(text)
    for start, end, _ in reversed(parts):
        del kept[start:end]
    assert rest == kept


def test_a_token_counts_where_its_bare_text_is_changed() -> None:
    text = "Now, he has 12"
    ends = [3, 4, 7, 11, 14]  # Now|,| he| has| 12
    assert changed_tokens(text, ends, [(0, 5)]).tolist() == [True, True, False, False, False]
    assert changed_tokens(text, ends, [(13, 14)]).tolist() == [False] * 4 + [True]
    assert not changed_tokens(text, ends, []).any()


@pytest.mark.parametrize(
    ("text", "after", "changed"),
    [
        ("7 + 5 = 13 pens. 13 - 3 = 10\n#### 10", "7 + 5 = 12 pens. 12 - 3 = 9\n#### 9", ["12", "12", "9", "9"]),
        ("3 boxes x 4 = 15, so 15.", "3 boxes x 4 = 12, so 12.", ["12", "12"]),
        ("$1,000 / 4 = $240", "$1,000 / 4 = $250", ["250"]),
        ("2 + 3 * 4 = 20", "2 + 3 * 4 = 14", ["14"]),
    ],
)
def test_results_are_computed_again_and_followed(text: str, after: str, changed: list[str]) -> None:
    (edited,) = arithmetic.mends(text, "no equation here")
    assert (edited.after, marked(edited)) == (after, changed)


def test_a_wrong_step_is_replaced_by_the_references() -> None:
    edited = list(arithmetic.mends("7 - 5 = 2 left, and 2 x 3 = 6.\n#### 6", "7 + 5 = 12; 12 x 3 = 36"))
    assert [one.after for one in edited] == ["7 + 5 = 12 left, and 12 x 3 = 36.\n#### 36"]
    assert marked(edited[0]) == ["7 + 5 = 12", "12", "36", "36"]


@pytest.mark.parametrize(
    "text",
    [
        "7 + 5 = 12\n#### 12",  # right as it stands
        "He has 13. 7 + 5 = 13\n#### 13",  # 13 is a number of the question too
        "7 / 0 = 3",
        "10 / 3 = 3.33",  # rounded
        "no numbers",
        "1 + = 3",
        "1/2 * 1/2 = 1/4",
        "1 + 1 = 3 * 4",
        "2.5 + 1 = 3.5",
    ],
)
def test_what_cannot_be_mended_safely_is_left_alone(text: str) -> None:
    assert list(arithmetic.mends(text, "")) == []


def test_equations_are_told_from_their_surroundings() -> None:
    text = "It is 1/2 * 1/2 = 1/4, $3 x 4 cards = $12. Then 3 + 2 = 5 * 1 and 10*60=$6.00 and 2 + 2 = 4."
    assert [(one.left, one.result) for one in arithmetic.equations(text)] == [
        ("$3 x 4 cards", "12"),
        ("10*60", "6.00"),
        ("2 + 2", "4"),
    ]
    assert [one.result for one in arithmetic.right_equations(text)] == ["12", "4"]


NUMBERS = st.integers(1, 99)


@given(NUMBERS, NUMBERS, NUMBERS, st.integers(100, 200))
@settings(max_examples=50)
def test_a_mended_chain_is_right_in_every_step(a: int, b: int, c: int, wrong: int) -> None:
    text = f"{a} + {b} = {wrong} cards\n{wrong} x {c} = 1 in all\n#### 1"
    for edited in arithmetic.mends(text, ""):
        for one in arithmetic.equations(edited.after):
            assert arithmetic.evaluate(one.left) == arithmetic.value_of(one.result)
        assert edited.after.endswith(f"#### {(a + b) * c}")


@given(st.recursive(NUMBERS.map(str), lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(" ".join)))
@settings(max_examples=60)
def test_evaluation_is_pythons(left: str) -> None:
    assert arithmetic.evaluate(left) == Fraction(eval(left))


def test_style_changes_words_alone() -> None:
    text = "So Natalia has 24 + 48 = 72 clips in total.\n#### 72"
    edited = wording.reworded(text)
    assert edited is not None
    assert edited.after == "Therefore Natalia has 24 + 48 = 72 clips altogether.\n#### 72"
    assert marked(edited) == ["Therefore", "altogether"]
    telegraphic = wording.reworded("s1: 7 + 5 = 12 pens\n#### 12")
    assert telegraphic is None


@given(
    st.lists(st.sampled_from([*wording.SYNONYMS, "Ada", "12", "+", "= 7.", "####", "$3", "\n", "pens"]), max_size=25)
)
@settings(max_examples=80)
def test_style_keeps_every_number_name_and_operator(words: list[str]) -> None:
    text = " ".join(words)
    edited = wording.reworded(text)
    if edited is not None:
        assert edited.after != text
        assert wording.content(edited.after) == wording.content(text)
        assert edited.after.count("Ada") == text.count("Ada")
        assert edited.after.count("####") == text.count("####")


PROGRAM = """def total(items, start=0):
    result = start
    for x in items:
        if x > 1 and x != 7:
            result += x
    label = "n"
    return result if f"{label}" else 0
"""


def run(code: str, *args: object) -> object:
    space: dict[str, object] = {}
    exec(code, space)
    return space["total"](*args)  # type: ignore[operator]


def test_a_restyled_program_computes_the_same() -> None:
    edited = programs.restyled(PROGRAM)
    assert edited is not None
    assert "result_value = start" in edited.after
    assert "label" in edited.after  # it is read in an f-string
    assert "label_value" not in edited.after
    assert f"    {programs.COMMENT}\n    result_value" in edited.after
    assert run(edited.after, [1, 2, 7, 9]) == run(PROGRAM, [1, 2, 7, 9]) == 11
    assert set(marked(edited)) == {"result_value", "x_value", f"    {programs.COMMENT}\n"}


def test_mutations_exchange_one_operator_or_constant_each() -> None:
    broken = PROGRAM.replace("x > 1", "x < 1")
    fixed = [one for one in programs.mends(broken) if run(one.after, [1, 2, 7, 9]) == 11]
    assert [marked(one) for one in fixed] == [[">"]]
    assert fixed[0].after == PROGRAM
    undo = list(programs.breaks(PROGRAM))
    assert all(one.after == PROGRAM and one.before != PROGRAM for one in undo)
    assert {marked(one)[0] for one in undo} >= {">", "and", "!=", "1", "7", "0"}


def test_a_program_is_found_in_its_fence_and_nowhere_in_prose() -> None:
    text = f"Here it is:\n```python\n{PROGRAM}```\nIt sums 2 > 1 items."
    start, end = programs.program_span(text) or (0, 0)
    assert text[start:end] == PROGRAM
    edited = programs.restyled(text)
    assert edited is not None
    assert edited.after.endswith("It sums 2 > 1 items.")
    assert programs.restyled("no program") is None
    assert list(programs.mends("x = (")) == []


def test_undone_marks_the_place_in_the_right_text() -> None:
    edited = undone("a > b", 2, 3, "<")
    assert (edited.before, edited.after, edited.spans) == ("a < b", "a > b", ((2, 3),))
    assert np.array_equal(changed_tokens("a > b", [1, 3, 5], edited.spans), [False, True, False])
