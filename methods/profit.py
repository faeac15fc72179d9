"""ProFit (arXiv 2601.09195, eq. 4-5): gold answers, masked online by the live model's own probability.

M_t = 1[sg(p_theta(y*_t)) > tau]; the loss is divided by ALL target tokens, masked ones included, as the authors' code
does. Under AdamW a constant factor on the loss cancels (but for ``eps``), so against ``kept`` this weighs batches by
their kept share, and makes it rarer that a step's gradient is clipped; it is no lower learning rate.

``random`` is the authors' control: each token is masked with probability tau, whatever its own probability is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dasd_bench.api import LiveTokens, Method, keep_option, option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ProFit(Method):
    """``direction`` as in the authors' code: higher (the paper's), lower, middle [tau, upper], or random."""

    name = "profit"
    summary = "ProFit: train on gold tokens whose probability under the current model is above tau."
    paper = "arXiv 2601.09195"
    # Full fine-tuning; the global batch is inferred from the authors' eight devices.
    card: ClassVar[dict[str, Any]] = {"lora_rank": 0, "lr": 1e-5, "warmup": 0.1, "batch_size": 32, "epochs": 1.0}
    denominator = "all"
    online = True

    tau: float = option(0.1, help="Probability threshold.", minimum=0.0, maximum=1.0)
    direction: str = option(
        "higher",
        help="Train on tokens above tau, below tau, from tau to upper, or all but a random fraction tau.",
        choices=("higher", "lower", "middle", "random"),
    )
    upper: float = option(0.9, help="Upper end of the band for direction=middle.", minimum=0.0, maximum=1.0)
    keep: str = keep_option("end")

    def online_weights(self, live: LiveTokens) -> Tensor:
        p = live.logp.exp()
        if self.direction == "higher":
            mask = p > self.tau
        elif self.direction == "lower":
            mask = p < self.tau
        elif self.direction == "random":
            mask = p.new_empty(p.shape).uniform_() >= self.tau  # the trainer seeds torch's generator at every step
        else:
            mask = (p >= self.tau) & (p <= self.upper)
        return (mask | live.keep).float()
