"""ProFit (arXiv 2601.09195, eq. 4-5): gold answers, masked online by the live model's own probability.

M_t = 1[sg(p_theta(y*_t)) > tau]; the loss is divided by ALL target tokens, masked ones included, as the authors' code
does, so that keeping fewer tokens lowers the effective learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dasd_bench.api import LiveTokens, Method, keep_option, option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ProFit(Method):
    """``direction`` as in the authors' code: higher (the paper's), lower, or middle [tau, upper]."""

    name = "profit"
    summary = "ProFit: learn gold tokens to which the current model gives probability above tau."
    paper = "arXiv 2601.09195"
    # Full fine-tuning; the global batch is inferred from the authors' eight devices.
    card: ClassVar[dict[str, Any]] = {"lora_rank": 0, "lr": 1e-5, "warmup": 0.1, "batch_size": 32, "epochs": 1.0}
    denominator = "all"
    online = True

    tau: float = option(0.1, help="Probability threshold.", minimum=0.0, maximum=1.0)
    direction: str = option(
        "higher", help="Learn tokens above tau, below tau, or from tau to upper.", choices=("higher", "lower", "middle")
    )
    upper: float = option(0.9, help="Upper end of the band for direction=middle.", minimum=0.0, maximum=1.0)
    keep: str = keep_option("end")

    def online_weights(self, live: LiveTokens) -> Tensor:
        p = live.logp.exp()
        if self.direction == "higher":
            mask = p > self.tau
        elif self.direction == "lower":
            mask = p < self.tau
        else:
            mask = (p >= self.tau) & (p <= self.upper)
        return (mask | live.keep).float()
