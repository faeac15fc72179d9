"""In-distribution fine-tuning (IDFT, arXiv 2602.12222): DFT's weight, raised to a power by how off-policy a token is.

phi_t = log p_t(y_t) + H[p_t] has mean zero where the token was drawn from the model. With g = clip(exp(-phi_t / beta),
low, high) and gamma_t = 1 + lambda (g - 1) the weight is sg(p_t^gamma_t): gamma 1 is DFT, gamma to 0 is SFT, and a
token far below the model's own entropy is pushed down by gamma up to ``high``. lambda rises from 0 to 1 over
``transition`` of the steps after ``warmup`` of them; the authors' published command sets both to 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dasd_bench.api import LiveTokens, Method, keep_option, option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Idft(Method):
    """The mean is over all trained tokens, each counted once; ``keep`` is none by default, as in the authors' rule."""

    name = "idft"
    summary = "IDFT: gold tokens weighted by the current model's probability, more sharply where they are off-policy."
    paper = "arXiv 2602.12222"
    online = True
    needs_entropy = True
    # Full fine-tuning of a 7B model.
    card: ClassVar[dict[str, Any]] = {
        "lora_rank": 0,
        "lr": 6e-5,
        "batch_size": 128,
        "epochs": 3.0,
        "warmup": 0.1,
        "weight_decay": 0.01,
        "adam_beta2": 0.95,
    }

    beta: float = option(1.0, help="Temperature of the off-policy score.", minimum=0.01, maximum=100.0)
    low: float = option(0.1, help="Minimum power.", minimum=0.0, maximum=1.0)
    high: float = option(2.0, help="Maximum power.", minimum=1.0, maximum=10.0)
    warmup: float = option(0.0, help="Fraction of the steps trained as DFT first.", minimum=0.0, maximum=1.0)
    transition: float = option(0.0, help="Fraction of the steps that then phase IDFT in.", minimum=0.0, maximum=1.0)
    keep: str = keep_option("none")

    def online_weights(self, live: LiveTokens) -> Tensor:
        assert live.entropy is not None
        power = ((live.logp + live.entropy) / -self.beta).exp().clamp(self.low, self.high)
        power = 1.0 + self.strength(live.progress) * (power - 1.0)
        return (power * live.logp).exp()

    def strength(self, progress: float) -> float:
        """lambda at ``progress`` (share of the steps done)."""
        if progress < self.warmup:
            return 0.0
        return min(1.0, (progress - self.warmup) / self.transition) if self.transition else 1.0
