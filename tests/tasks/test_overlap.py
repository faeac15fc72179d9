"""Overlap of train and test prompts."""

from __future__ import annotations

from dasd_bench.tasks.overlap import overlap
from dasd_bench.types import Example

WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"


def examples(split: str, *prompts: str) -> list[Example]:
    return [Example(f"t/{split}/{i}", "t", prompt, "", "") for i, prompt in enumerate(prompts)]


def test_exact_and_thirteen_words() -> None:
    _first, rest = WORDS.split(" ", 1)
    train = examples("train", f"Sam said: {WORDS}.", "How many cats?")
    test = examples("test", "how many CATS", f"Ada wrote {rest}!", "How many dogs?")
    found = overlap(train, test)
    assert found.exact == [("t/test/0", "t/train/1")]
    assert found.grams == [("t/test/1", "t/train/0")]
    assert found.sentence().startswith("of 3 test rows, 1 are exact duplicates of training rows and 1 share a 13-gram")


def test_twelve_words_are_not_enough() -> None:
    train = examples("train", " ".join(WORDS.split()[:12]) + " cat")
    assert not overlap(train, examples("test", " ".join(WORDS.split()[:12]) + " dog")).sentence()


def test_a_template_is_no_overlap() -> None:
    train = examples("train", *(f"{WORDS} question {i} here" for i in range(20)))
    assert not overlap(train, examples("test", f"{WORDS} question 99 here")).grams


def test_words_around_a_template_are_no_overlap() -> None:
    """A run that ends in a template's words is not 13 words of two questions."""
    template = "Reason step by step and put the final answer in the box at the end"
    train = examples("train", *(f"Number {i} asks what is the value of x{i}. {template}" for i in range(30)))
    test = examples("test", f"Number 99 asks what is the value of x99. {template}")
    assert not overlap(train, test).grams


def test_each_training_task_has_its_own_template() -> None:
    long = "Your code should pass these tests and end with a line that says done and nothing else at all"
    train = [
        *(Example(f"a/train/{i}", "a", f"Word{i} {long}", "", "") for i in range(5)),
        *(Example(f"b/train/{i}", "b", f"{WORDS} number{i} other{i}", "", "") for i in range(60)),
    ]
    found = overlap(train, examples("test", f"Word77 {long}", f"Word3 {long}"))
    assert found.exact == [("t/test/1", "a/train/3")]
    assert not found.grams
    assert found.summary() == {"test_rows": 2, "exact": 1, "13_gram": 0, "first": [["t/test/1", "a/train/3"]]}
