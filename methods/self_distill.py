"""Self-distillation fine-tuning (SDFT, arXiv 2402.13669): the model's own rewrite of each answer, gold where it fails.

This is the off-policy rewriting method of 2024, not the on-policy SDFT of arXiv 2601.19897.
Differs from the authors' code: greedy by default (theirs samples at T 0.95, top-p 0.7, top-k 50: set ``temperature``,
``top_p``, ``top_k``), and the multi-turn prompt by default (theirs is ``prompt=guide``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dasd_bench.api import Example, Method, MethodContext, Origin, Sampling, Target, check_rewrites, keep_option, option


@dataclass(frozen=True)
class SelfDistill(Method):
    """y' = rewrite ~ p_0(.|x, y*) if it is accepted, else y*; trained on the plain prompt."""

    name = "self-distill"
    summary = "SDFT: train on the model's own rewrite of the gold answer; gold where the rewrite is rejected."
    paper = "arXiv 2402.13669"
    # The authors take 5 epochs on gsm8k and openfunction: training.epochs=5.
    card: ClassVar[dict[str, Any]] = {
        "lora_rank": 8,
        "lora_alpha": 16.0,
        "lora_targets": "q_proj,v_proj",
        "lr": 1e-4,
        "warmup": 0.0,
        "batch_size": 8,
        "epochs": 2.0,
    }

    prompt: str = option(
        "multi-turn", help="Rewrite prompt: multi-turn (gold as a turn) or guide.", choices=("multi-turn", "guide")
    )
    temperature: float = option(0.0, help="Sampling temperature; 0 is greedy.", minimum=0.0, maximum=5.0)
    top_p: float = option(1.0, help="Nucleus truncation.", minimum=0.01, maximum=1.0)
    top_k: int = option(0, help="Top-k truncation; 0 disables it.", minimum=0)
    on_wrong: str = option("gold", help="What replaces a rejected rewrite.", choices=("gold", "drop"))
    min_length_ratio: float = option(
        0.3, help="Reject rewrites shorter than this fraction of the gold answer.", minimum=0.0, maximum=1.0
    )
    keep: str = keep_option("end")

    def stochastic(self) -> bool:
        return self.temperature > 0

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        rewrites = context.generate(
            [context.rewrite_prompt(example, self.prompt) for example in examples],
            max_new_tokens=[context.new_tokens(example) for example in examples],
            sampling=Sampling(self.temperature, self.top_p, self.top_k),
            label="rewrite",
        )
        targets = []
        checks = check_rewrites(examples, rewrites, context, min_ratio=self.min_length_ratio)
        for example, rewrite, check in zip(examples, rewrites, checks, strict=True):
            if check.accepted:
                origin = np.full(len(rewrite.token_ids), Origin.CANDIDATE, dtype=np.uint8)
                targets.append(context.target(example, rewrite.token_ids, origin, reason="rewrite", accepted=True))
            elif self.on_wrong == "gold":
                targets.append(context.reference_target(example, f"gold:{check.reason}", accepted=False))
        return targets
