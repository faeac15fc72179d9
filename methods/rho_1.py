"""Rho-1 (arXiv 2404.07965), static form: gold tokens that a trained reference model finds easier than the base does.

The reference model is the base trained on the gold answers with the arm's settings. Excess loss of a token is L_0 -
L_RM; the top ``share`` of all tokens is trained on. The authors rank within each batch by the live model's loss, and
train their reference on other, curated data: here the model in training is the base throughout, and the ranking is over
the whole training set. The rule is the opposite of STM's: it picks tokens of high loss that can be learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from dasd_bench.api import Example, Method, MethodContext, ScoredTarget, Target, keep_option, option


@dataclass(frozen=True)
class Rho1(Method):
    """Weight 1 on the tokens of highest excess loss; mean over kept tokens."""

    name = "rho-1"
    summary = "Rho-1 (static): gold tokens of highest excess loss over a reference model trained on gold."
    paper = "arXiv 2404.07965"
    trains = True
    denominator = "kept"
    card: ClassVar[dict[str, Any]] = {"lora_rank": 0, "lr": 8e-5}

    share: float = option(0.6, help="Share of all gold tokens that is learned.", minimum=0.001, maximum=1.0)
    keep: str = keep_option("end")

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        gold = [context.reference_target(example) for example in examples]
        reference = context.train(gold, label="reference model")
        base, trained = context.score(gold, examples), context.score(gold, examples, model=reference)
        excess = [after.logp - before.logp for before, after in zip(base, trained, strict=True)]
        learned = np.split(top_share(np.concatenate(excess), self.share), np.cumsum([len(x) for x in excess])[:-1])
        return [
            replace(target, columns={"excess_loss": own, "learned": chosen.astype(np.float32)})
            for target, own, chosen in zip(gold, excess, learned, strict=True)
        ]

    def select(self, scored: ScoredTarget) -> np.ndarray:
        learned = scored.target.columns["learned"] > 0
        return (learned | self.keeps(scored.target)).astype(np.float32)


def top_share(values: np.ndarray, share: float) -> np.ndarray:
    """Bool [N]: the ``share`` of highest values; of equal ones the earlier."""
    chosen = np.zeros(len(values), dtype=np.bool_)
    chosen[np.argsort(-values, kind="stable")[: max(1, round(share * len(values)))]] = True
    return chosen
