"""Plain SFT with a KL anchor to the untrained model: a baseline for methods that promise less forgetting.

L = mean_t [ -log p(y*_t) + strength * KL_t ] over the whole vocabulary, on the gold answer's own prefixes.
``forward`` is KL(p_0 || p), as in the mode ``sft+kl`` of ASFT's code: the model must still cover what the base would
say. ``reverse`` is KL(p || p_0): it must not say what the base would not.

Cost: one forward pass of the base per pack (the adapter switched off), and the logits of both, 128 tokens at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dasd_bench.api import LiveLogits, Method, forward_kl, option, reverse_kl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class KlAnchor(Method):
    """Strength 0 is plain SFT, at a higher cost."""

    name = "kl-anchor"
    summary = "Plain SFT with a KL anchor to the untrained model."
    teacher = "base"

    strength: float = option(0.1, help="Weight of the KL term.", minimum=0.0, maximum=1000.0)
    direction: str = option(
        "forward",
        help="forward is KL(base || model), reverse is KL(model || base).",
        choices=("forward", "reverse"),
    )

    def token_loss(self, live: LiveLogits) -> Tensor:
        divergence = forward_kl if self.direction == "forward" else reverse_kl
        return live.nll() + self.strength * divergence(live.teacher_logits[0], live.logits)
