"""Train/test overlap: rows of the test split that the train split gives away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dasd_bench.records import Example

GRAM = 13
"""Words in a row that count as overlap, as in the GPT-3 paper (arXiv 2005.14165, appendix C)."""


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
            f"{len(self.exact)} of {self.tests} test rows are also training rows word for word and {len(self.grams)} "
            f"share {GRAM} words in a row with one (first: {first[0]} and {first[1]})."
        )


def overlap(train: Sequence[Example], test: Sequence[Example]) -> Overlap:
    """Compares prompts, without case and punctuation at word ends; each test row is listed at most once a kind.

    A prompt template's own words are not counted: 13-grams that a fifth of the training prompts share are left out.
    """
    by_text: dict[tuple[str, ...], str] = {}
    by_gram: dict[tuple[str, ...], str] = {}
    counts: dict[tuple[str, ...], int] = {}
    for example in train:
        words = _words(example.prompt)
        by_text.setdefault(words, example.id)
        for gram in _grams(words):
            by_gram.setdefault(gram, example.id)
            counts[gram] = counts.get(gram, 0) + 1
    common = {gram for gram, count in counts.items() if count > max(1, len(train) // 5)}
    exact, grams = [], []
    for example in test:
        words = _words(example.prompt)
        if words in by_text:
            exact.append((example.id, by_text[words]))
        else:
            shared = sorted(gram for gram in _grams(words) if gram in by_gram and gram not in common)
            if shared:
                grams.append((example.id, by_gram[shared[0]]))
    return Overlap(exact, grams, len(test))


def _words(text: str) -> tuple[str, ...]:
    stripped = (word.strip(".,;:!?\"'()[]") for word in text.lower().split())
    return tuple(word for word in stripped if word)


def _grams(words: tuple[str, ...]) -> set[tuple[str, ...]]:
    return {words[i : i + GRAM] for i in range(len(words) - GRAM + 1)}
