"""Rows of ``mini_arc``: four-choice science questions made from :mod:`facts` and a fixed seed, standard library alone.

Columns as in ARC (``id``, ``question``, ``choices`` with ``text`` and ``label``, ``answerKey``) and ``level``. A fact
serves in one split only. Wrong choices come from the same relation; the right answer is equally often in each place
and equally often the longest, second, third and shortest choice, so neither place nor length gives it away.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from typing import Any

SEED = 20263
LETTERS = "ABCD"


def _facts() -> Any:
    """The module beside this one; loaded by path, because neither lm-eval nor a plugin folder is on ``sys.path``."""
    path = Path(__file__).with_name("facts.py")
    spec = importlib.util.spec_from_file_location("mini_arc_facts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mini_arc_facts"] = module
    spec.loader.exec_module(module)
    return module


def _choices(rng: random.Random, gold: str, pool: list[str], rank: int) -> list[str]:
    """Three wrong choices that make ``gold`` number ``rank`` by length (0 = shortest), as nearly as the pool allows."""
    others = [text for text in pool if text != gold]
    rng.shuffle(others)
    shorter = [text for text in others if len(text) < len(gold)]
    longer = [text for text in others if len(text) > len(gold)]
    same = [text for text in others if len(text) == len(gold)]
    picked = shorter[:rank] + longer[: 3 - rank]
    picked += (same + shorter[rank:] + longer[3 - rank :])[: 3 - len(picked)]
    return picked


def _ask(text: str, word: str) -> str:
    """The question with its word filled in, "a" turned into "an" before a vowel."""
    if word[0] in "aeiou":
        text = text.replace("a {}", "an {}").replace("A {}", "An {}")
    return text.format(word)


def _halves(rng: random.Random, facts: list[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """The facts dealt to the two splits in turn, answer by answer, so that both splits have the same answers where
    an answer recurs. Wrong choices are later drawn within a split: else a training set would teach that the answers
    of its own facts are right, and these would be always wrong in the test."""
    rng.shuffle(facts)
    order = list(dict.fromkeys(answer for _, answer in facts))
    dealt = [fact for answer in order for fact in facts if fact[1] == answer]
    return {"train": dealt[0::2], "test": dealt[1::2]}


def make_rows() -> dict[str, list[dict[str, Any]]]:
    """Both splits, a pure function of :data:`SEED` and the tables."""
    rng = random.Random(SEED)
    splits: dict[str, list[dict[str, Any]]] = {}
    for relation in _facts().RELATIONS:
        for split, facts in _halves(rng, relation.facts()).items():
            entities = [entity for entity, _ in facts]
            answers = list(dict.fromkeys(answer for _, answer in facts))
            for entity, answer in facts:
                asked = [(_ask(text, entity), answer, answers) for text in relation.forward]
                asked += [(_ask(text, answer), entity, entities) for text in relation.backward]
                for question, gold, pool in asked:
                    wrong = _choices(rng, gold, pool, rng.randrange(min(4, len(pool))))
                    row = {"question": question, "gold": gold, "wrong": wrong, "level": relation.level}
                    splits.setdefault(split, []).append(row)
    return {split: _place(rng, rows, split) for split, rows in splits.items()}


def _place(rng: random.Random, rows: list[dict[str, Any]], split: str) -> list[dict[str, Any]]:
    """Rows in ARC's columns, in random order, the right answer equally often in each place."""
    rng.shuffle(rows)
    placed = []
    for i, row in enumerate(rows):
        wrong = list(row["wrong"])
        rng.shuffle(wrong)
        place = i % (len(wrong) + 1)
        texts = [*wrong[:place], row["gold"], *wrong[place:]]
        labels = list(LETTERS[: len(texts)])
        placed.append(
            {
                "id": f"mini_arc_{split}_{i:03d}",
                "question": row["question"],
                "choices": {"text": texts, "label": labels},
                "answerKey": labels[place],
                "level": row["level"],
            }
        )
    rng.shuffle(placed)
    return placed


def load(**_: Any) -> dict[str, Any]:
    """What lm-eval's ``custom_dataset`` wants: split name to ``datasets.Dataset``."""
    import datasets

    return {split: datasets.Dataset.from_list(rows) for split, rows in make_rows().items()}
