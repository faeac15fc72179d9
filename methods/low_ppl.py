"""Low-perplexity token learning (STM, arXiv 2501.14315): gold answers, high-perplexity tokens masked once."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dasd_bench.api import Method, ScoredTarget, keep_option, option


@dataclass(frozen=True)
class LowPpl(Method):
    """Weight 1[ppl_t <= tau] with ppl_t = 1 / p_0(y_t | x, y_<t) under the frozen base; mean over kept tokens.

    ``control=reversed`` is a broken selector for tests that need one: weight 1[ppl_t > tau].
    """

    name = "low-ppl"
    summary = "STM: train only on gold tokens whose perplexity under the base is at most tau."
    paper = "arXiv 2501.14315"
    card: ClassVar[dict[str, Any]] = {
        "lora_rank": 16,
        "lora_alpha": 32.0,
        "lora_dropout": 0.05,
        "dora": True,
        "lr": 2e-5,
        "warmup": 20.0,
        "max_length": 512,
        "batch_size": 1,
        "epochs": 3.0,
    }
    denominator = "kept"

    tau: float = option(2.5, help="Maximum perplexity of a trained token.", minimum=1.0)
    control: str = option(
        "none",
        help="reversed: train on the tokens above tau instead, a broken selector for comparison.",
        choices=("none", "reversed"),
    )
    keep: str = keep_option("end")

    def select(self, scored: ScoredTarget) -> np.ndarray:
        low = -scored.scores.logp <= np.log(self.tau)
        chosen = ~low if self.control == "reversed" else low
        return (chosen | self.keeps(scored.target)).astype(np.float32)
