"""SCAR (arXiv 2406.10882): the gold answers of most consistent style, by the authors' published ranker.

The ranker is the package ``scar-tool`` with the authors' weights; there is no stand-in for it. It runs code from the
hub (``trust_remote_code`` of its encoder), on the CPU. The share of best-ranked answers is trained on.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dasd_bench.api import Example, Method, MethodContext, RunFacts, Target, option


@dataclass(frozen=True)
class Scar(Method):
    """Gold answers whose score f(x, y) is among the top ``share``; ties keep the earlier one."""

    name = "scar"
    summary = "SCAR: the gold answers that the authors' style ranker ranks highest."
    paper = "arXiv 2406.10882"
    card: ClassVar[dict[str, Any]] = {"lr": 1e-4, "epochs": 3.0, "batch_size": 4, "max_length": 2048}

    share: float = option(0.5, help="Share of the answers that is trained on.", minimum=0.001, maximum=1.0)
    ranker: str = option("lizhuang144/scar-gte-base", help="The ranker's weights: a hub name or a folder.")

    def lacking(self, facts: RunFacts) -> str:
        if importlib.util.find_spec("style_ranker") is None:
            return "needs the authors' ranker: pip install scar-tool"
        if facts.offline and not Path(self.ranker).is_dir():
            return (
                f"needs the ranker's weights, and nothing is fetched with --offline: huggingface-cli download "
                f"{self.ranker} --local-dir scar, then scar+ranker=scar"
            )
        return ""

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        pairs = [[example.prompt, example.reference] for example in examples]
        key = {"ranker": self.ranker, "pairs": pairs}
        ranked = context.remember("ranking", key, lambda: {"scores": rank(self.ranker, pairs)})["scores"]
        return [context.reference_target(examples[i]) for i in best(ranked, self.share)]


def best(scores: np.ndarray, share: float) -> list[int]:
    """Indices of the highest scores, in order; at least one."""
    count = max(1, round(share * len(scores)))
    return sorted(int(i) for i in np.argsort(-scores, kind="stable")[:count])


def rank(ranker: str, pairs: Sequence[Sequence[str]]) -> np.ndarray:
    """The ranker's score float32 of each (question, answer)."""
    import torch
    from style_ranker.ranker.model import StyleRanker
    from transformers import AutoTokenizer

    model, tokenizer = StyleRanker.from_pretrained(ranker).eval(), AutoTokenizer.from_pretrained(ranker)
    scores = []
    for pair in pairs:
        question, answer = (tokenizer([text], return_tensors="pt", truncation=True, max_length=512) for text in pair)
        with torch.no_grad():
            score = model(question.input_ids, question.attention_mask, answer.input_ids, answer.attention_mask)
        scores.append(float(score))
    return np.array(scores, dtype=np.float32)
