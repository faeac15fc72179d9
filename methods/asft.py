"""Anchored supervised fine-tuning (ASFT, arXiv 2509.23753): DFT's weighted nll with a KL anchor to the untrained model.

L = mean_t [ -sg(p(y*_t)) log p(y*_t) + strength * KL(p_0 || p)_t ], over the whole vocabulary. DFT's weight falls on
the nll alone. The direction is that of the authors' code and of LLaMA-Factory's, whose default strength is 0.1 too
(the authors' README has 0.05).

Cost: one forward pass of the base per pack (the adapter switched off), and the logits of both, 128 tokens at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dasd_bench.api import LiveLogits, Method, forward_kl, option, reverse_kl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Asft(Method):
    """The mean is over all trained tokens, each counted once; no token is exempt, as in the authors' code."""

    name = "asft"
    summary = "ASFT: DFT's weighted nll with a KL anchor to the untrained model."
    paper = "arXiv 2509.23753"
    teacher = "base"
    # The authors' script for LoRA.
    card: ClassVar[dict[str, Any]] = {
        "lora_rank": 8,
        "lora_alpha": 16.0,
        "lora_dropout": 0.05,
        "lr": 2e-5,
        "batch_size": 64,
        "epochs": 3.0,
        "max_length": 512,
    }

    strength: float = option(0.1, help="Weight of the KL term.", minimum=0.0, maximum=1000.0)
    direction: str = option(
        "forward",
        help="forward is KL(base || model), the authors'; reverse is KL(model || base).",
        choices=("forward", "reverse"),
    )

    def token_loss(self, live: LiveLogits) -> Tensor:
        divergence = forward_kl if self.direction == "forward" else reverse_kl
        nll = live.nll()
        return (-nll.detach()).exp() * nll + self.strength * divergence(live.teacher_logits[0], live.logits)
