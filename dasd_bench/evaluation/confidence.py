"""A model's own confidence in its answers: a measure of difficulty that every task has.

Free text: the geometric mean of the probabilities the model gave the tokens of its own answer, exp(mean log p).
Multiple choice: the probability of the choice it took among the choices, by the rule that the score is taken with
(summed log p, or log p per character for ``acc_norm``). Both are in [0, 1]; only their order is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def answer_confidence(logp: npt.NDArray[np.float32]) -> float:
    """exp of the mean log-probability (float32 [T], nats) of an answer's tokens; 0 for an empty answer.

    Six digits are kept: what is beyond them depends on the order of additions.
    """
    return round(math.exp(float(logp.astype(np.float64).mean())), 6) if len(logp) else 0.0


def choice_confidence(logps: Sequence[float], lengths: Sequence[int]) -> float:
    """The softmax probability of the likeliest choice; ``logps`` in nats, each divided by its length first."""
    scores = [logp / length for logp, length in zip(logps, lengths, strict=True)]
    best = max(scores)
    return round(1 / sum(math.exp(score - best) for score in scores), 6)
