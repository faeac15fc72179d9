"""Self-Output (the baseline of arXiv 2501.14315), as its authors' code makes it: the likeliest right sample.

Of ``samples`` answers (temperature 0.7, top-p 0.95) the right ones are ranked by the perplexity of the bare text,
*without prompt* (``rank=prompt``: behind the question), and the lowest is trained on. A question without a right sample
is dropped; the paper says that gold stands in (``on_wrong=gold``). The published code takes one sample, the paper 32.
Differs from the code: the generated tokens are scored, not the text tokenised again, and in one piece at any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dasd_bench.api import (
    Example,
    Method,
    MethodContext,
    Origin,
    Sampling,
    Target,
    TokenScores,
    answer_target,
    nothing_kept,
    option,
    sample_answers,
)


@dataclass(frozen=True)
class SelfOutput(Method):
    """argmin over right samples of exp(-mean log p_0(y_t | y_<t)), the end token aside."""

    name = "self-output"
    summary = "Self-Output: the right sample of lowest perplexity; questions without one are dropped."
    paper = "arXiv 2501.14315"
    card: ClassVar[dict[str, Any]] = {
        "lora_rank": 32, "lora_alpha": 16.0, "lora_dropout": 0.05, "lr": 2e-5, "epochs": 3.0,
    }  # fmt: skip

    samples: int = option(1, help="Answers per question; the paper takes 32.", minimum=1, maximum=1024)
    temperature: float = option(0.7, help="Sampling temperature.", minimum=0.0, maximum=5.0)
    top_p: float = option(0.95, help="Nucleus truncation.", minimum=0.01, maximum=1.0)
    rank: str = option("bare", help="Perplexity without prompt, or behind the question.", choices=("bare", "prompt"))
    on_wrong: str = option("drop", help="Questions without a right sample: drop, or gold.", choices=("drop", "gold"))

    def stochastic(self) -> bool:
        return self.temperature > 0

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        drawn = sample_answers(
            context, examples, count=self.samples, sampling=Sampling(self.temperature, self.top_p), label="self-output"
        )
        right = [
            (example, [answer_target(context, example, s.generation, Origin.BASE, "sample") for s in own if s.right])
            for example, own in zip(examples, drawn, strict=True)
        ]
        flat = [(example, target) for example, own in right for target in own]
        if not flat and self.on_wrong == "drop":
            tried = f"none of the {self.samples * len(examples)} samples is right"
            raise nothing_kept(self.name, tried, "take more samples, on_wrong=gold or an abler model")
        prompts = [() for _ in flat] if self.rank == "bare" else None
        scores = iter(context.score([t for _, t in flat], [e for e, _ in flat], prompts=prompts) if flat else [])
        targets = []
        for example, own in right:
            if own:
                ranked = [perplexity(next(scores)) for _ in own]
                targets.append(own[int(np.argmin(ranked))])
            elif self.on_wrong == "gold":
                targets.append(context.reference_target(example, "gold:no right sample", accepted=False))
        return targets


def perplexity(scores: TokenScores) -> float:
    """Of the text's tokens; the first counts where something stood before it, the end token never."""
    logp = scores.logp[:-1].astype(np.float64)
    logp = logp[~np.isnan(logp)]
    return float(np.exp(-logp.mean())) if len(logp) else 1.0
