"""Dynamic fine-tuning (DFT, arXiv 2508.05629): every gold token weighted by the live model's own probability.

L = -mean_t sg(p_theta(y*_t)) log p_theta(y*_t). The authors' rule has no exempt tokens, so ``keep`` is none by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dasd_bench.api import LiveTokens, Method, keep_option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Dft(Method):
    """Weight p_t without gradient; the mean is over all trained tokens, each counted once."""

    name = "dft"
    summary = "DFT: gold tokens weighted by the current model's probability of them."
    paper = "arXiv 2508.05629"
    online = True
    # Full fine-tuning of a 1.5B model on 100k examples.
    card: ClassVar[dict[str, Any]] = {
        "lora_rank": 0,
        "lr": 5e-5,
        "batch_size": 256,
        "epochs": 1.0,
        "warmup": 0.1,
        "weight_decay": 0.01,
        "adam_beta2": 0.95,
    }

    keep: str = keep_option("none")

    def online_weights(self, live: LiveTokens) -> Tensor:
        return live.logp.exp()
