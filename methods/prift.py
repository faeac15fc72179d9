"""Prior-support guided fine-tuning (PriFT, arXiv 2606.09396): gold tokens weighted by the untrained model's support.

``prift`` (the paper's PriFT-prob): weight p_0(y*_t), which is DFT's weight read off the frozen base, so that training
cannot feed back into it. ``prift-mass`` (PriFT-mass): weight 1 where the tokens that the base finds likelier than
y*_t hold less than ``mass`` of its probability, so that y*_t lies in its nucleus, else 0.

We have read the paper's abstract only: how PriFT-mass is cut, its threshold and what the loss is divided by are ours.

Cost: ``prift`` trains like plain SFT, since the base's scores are stored anyway. ``prift-mass`` needs the base's
whole distributions: one forward pass of the base per pack (the adapter switched off), and the logits of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dasd_bench.api import LiveLogits, Method, ScoredTarget, keep_option, option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PriftProb(Method):
    """Weights are fixed before training; the mean is over all trained tokens, each counted once, as for ``dft``."""

    name = "prift"
    summary = "PriFT-prob: gold tokens weighted by the untrained model's probability of them."
    paper = "arXiv 2606.09396"

    keep: str = keep_option("none")

    def select(self, scored: ScoredTarget) -> np.ndarray:
        weights: np.ndarray = np.where(self.keeps(scored.target), 1.0, np.exp(scored.scores.logp)).astype(np.float32)
        return weights


@dataclass(frozen=True)
class PriftMass(Method):
    """The loss is divided by all target tokens, so that a batch counts by the share of it that is supported."""

    name = "prift-mass"
    summary = "PriFT-mass: learn gold tokens in the nucleus of the untrained model."
    paper = "arXiv 2606.09396"
    teacher = "base"
    denominator = "all"

    mass: float = option(
        0.9,
        help="Probability that likelier tokens of the base may hold; above it a token is masked.",
        minimum=0.01,
        maximum=1.0,
    )

    def token_loss(self, live: LiveLogits) -> Tensor:
        base = live.teacher_logits[0]
        likelier = base > base.gather(-1, live.labels[:, None])
        above = (base.softmax(-1) * likelier).sum(-1)
        return (above < self.mass) * live.nll()
