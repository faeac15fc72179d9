"""Rho-1 (arXiv 2404.07965): gold tokens that a trained reference model finds easier than the model in training does.

The reference model is the base trained on the gold answers with the arm's settings; the authors train theirs on other,
curated data. Excess loss of a token is L - L_RM; the top ``share`` is trained on. ``rho-1-batch`` takes L from the live
model and the top within each batch of an optimiser step, as the authors do, at the cost of one more forward pass;
``rho-1`` takes it from the base and the top of the whole training set, once. The rule is the opposite of STM's: it
picks tokens of high loss that can be learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dasd_bench.api import Example, LiveTokens, Method, MethodContext, ScoredTarget, Target, keep_option, option

if TYPE_CHECKING:
    from torch import Tensor


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
        learned = np.split(
            top_share(np.concatenate(excess), self.share).astype(np.float32), np.cumsum([len(x) for x in excess])[:-1]
        )
        return [
            replace(target, columns={"excess_loss": own, "reference_logp": after.logp, "learned": chosen})
            for target, own, after, chosen in zip(gold, excess, trained, learned, strict=True)
        ]

    def select(self, scored: ScoredTarget) -> np.ndarray:
        learned = scored.target.columns["learned"] > 0
        return (learned | self.keeps(scored.target)).astype(np.float32)


@dataclass(frozen=True)
class Rho1Batch(Rho1):
    """As Rho-1, with the live model's loss and the highest excess within each batch."""

    name = "rho-1-batch"
    summary = "Rho-1: gold tokens of each batch whose loss exceeds that of a reference model trained on gold the most."
    online = True
    scope = "batch"

    def select(self, scored: ScoredTarget) -> np.ndarray:
        return np.ones(len(scored.target.token_ids), dtype=np.float32)

    def online_weights(self, live: LiveTokens) -> Tensor:
        if "reference_logp" not in live.columns:
            return live.static.new_ones(live.static.shape)  # the reference model itself learns every token
        excess = live.columns["reference_logp"] - live.logp
        learned = top_share(excess.cpu().numpy(), self.share)
        return (live.keep | live.keep.new_tensor(learned)).float()


def top_share(values: np.ndarray, share: float) -> np.ndarray:
    """Bool [N]: the ``share`` of highest values; of equal ones the earlier."""
    chosen = np.zeros(len(values), dtype=np.bool_)
    chosen[np.argsort(-values, kind="stable")[: max(1, round(share * len(values)))]] = True
    return chosen
