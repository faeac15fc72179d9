"""Train/test overlap: rows of the test split that the train split gives away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dasd_bench.types import Example

GRAM = 13
"""Words in a row that count as overlap, as in the GPT-3 paper (arXiv 2005.14165, appendix C)."""

TEMPLATE_RUN = 5
"""Words in a row that belong to a prompt template where many prompts have them."""
ENOUGH = 50
"""Test rows from which their template is known."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """``exact`` and ``grams`` hold (test id, train id) pairs: equal prompts, and prompts that share a 13-gram."""

    exact: list[tuple[str, str]]
    grams: list[tuple[str, str]]
    tests: int

    def sentence(self) -> str:
        """One line for the reader; empty where there is no overlap."""
        if not self.exact and not self.grams:
            return ""
        first = (self.exact or self.grams)[0]
        return (
            f"of {self.tests} test rows, {len(self.exact)} are exact duplicates of training rows and {len(self.grams)} "
            f"share a {GRAM}-gram with one (first: {first[0]} and {first[1]})."
        )

    def summary(self) -> dict[str, Any]:
        """Counts and the first pairs of ids, for the manifest."""
        return {
            "test_rows": self.tests,
            "exact": len(self.exact),
            f"{GRAM}_gram": len(self.grams),
            "first": [list(pair) for pair in (*self.exact, *self.grams)[:5]],
        }


def overlap(train: Sequence[Example], test: Sequence[Example]) -> Overlap:
    """Compares prompts, without case and punctuation at word ends; each test row is listed at most once a kind.

    A prompt template's own words are not counted: runs of five words that a fifth of the prompts share split a prompt
    into parts, and 13 words in a row must lie in one part. The tasks of ``train`` are looked at one by one.
    """
    exact: dict[str, str] = {}
    grams: dict[str, str] = {}
    for task in dict.fromkeys(example.task for example in train):
        _compare([example for example in train if example.task == task], test, exact, grams)
    order = [example.id for example in test]
    return Overlap(
        [(name, exact[name]) for name in order if name in exact],
        [(name, grams[name]) for name in order if name in grams and name not in exact],
        len(test),
    )


def _compare(train: Sequence[Example], test: Sequence[Example], exact: dict[str, str], grams: dict[str, str]) -> None:
    """Adds the pairs of one training task, by test id."""
    template = _template(train) | (_template(test) if len(test) >= ENOUGH else set())
    by_text: dict[tuple[str, ...], str] = {}
    by_gram: dict[tuple[str, ...], str] = {}
    for example in train:
        words = _words(example.prompt)
        by_text.setdefault(words, example.id)
        for gram in _grams(words, template):
            by_gram.setdefault(gram, example.id)
    for example in test:
        words = _words(example.prompt)
        if words in by_text:
            exact.setdefault(example.id, by_text[words])
        else:
            shared = min((gram for gram in _grams(words, template) if gram in by_gram), default=None)
            if shared is not None:
                grams.setdefault(example.id, by_gram[shared])


def _words(text: str) -> tuple[str, ...]:
    stripped = (word.strip(".,;:!?\"'()[]") for word in text.lower().split())
    return tuple(word for word in stripped if word)


def _runs(words: tuple[str, ...], size: int) -> list[tuple[str, ...]]:
    return [words[i : i + size] for i in range(len(words) - size + 1)]


def _template(examples: Sequence[Example]) -> set[tuple[str, ...]]:
    """Runs of words that more than a fifth of the prompts have."""
    counts = Counter(run for example in examples for run in set(_runs(_words(example.prompt), TEMPLATE_RUN)))
    return {run for run, count in counts.items() if count > max(1, len(examples) // 5)}


def _grams(words: tuple[str, ...], template: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """The 13-grams of a prompt that have no word of the template in them."""
    mine = [False] * len(words)
    for i, run in enumerate(_runs(words, TEMPLATE_RUN)):
        if run in template:
            mine[i : i + TEMPLATE_RUN] = [True] * TEMPLATE_RUN
    return {gram for i, gram in enumerate(_runs(words, GRAM)) if not any(mine[i : i + GRAM])}
