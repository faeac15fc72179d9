"""Simple self-distillation (SSD, arXiv 2604.01193): one sample per prompt, not graded; the gold answers are never read.

y ~ p_0 at ``temperature``, ``top_k``, ``top_p``; SFT on it. Dropped: answers without text, cut answers (ours: the
authors' limit is 65,536 tokens) and with ``stubs=drop`` those of a single line, as the authors do on code. ``shortest``
is the share of shortest answers that their configuration drops. They tune the temperature of evaluation too; here
answers are evaluated greedily.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dasd_bench.api import Example, Generation, Method, MethodContext, Origin, Sampling, Target, answer_target, option


@dataclass(frozen=True)
class Ssd(Method):
    """Targets are raw samples of the base; every token has weight 1."""

    name = "ssd"
    summary = "SSD: one ungraded sample of the model per question."
    paper = "arXiv 2604.01193"
    # Full fine-tuning; the authors train 300 to 2,500 steps.
    card: ClassVar[dict[str, Any]] = {
        "lora_rank": 0, "lr": 5e-6, "batch_size": 32, "warmup": 0.1, "weight_decay": 0.1, "adam_beta2": 0.95,
    }  # fmt: skip

    temperature: float = option(1.5, help="Sampling temperature.", minimum=0.0, maximum=5.0)
    top_p: float = option(0.8, help="Nucleus truncation.", minimum=0.01, maximum=1.0)
    top_k: int = option(20, help="Top-k truncation; 0 is off.", minimum=0)
    shortest: float = option(0.1, help="Share of the shortest answers that is dropped.", minimum=0.0, maximum=0.99)
    stubs: str = option("keep", help="Answers of a single line: keep or drop.", choices=("keep", "drop"))

    def stochastic(self) -> bool:
        return self.temperature > 0

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        answers = context.generate(
            [context.plain_prompt(example) for example in examples],
            max_new_tokens=[context.new_tokens(example) for example in examples],
            sampling=Sampling(self.temperature, self.top_p, self.top_k),
            label="sample",
        )
        return [
            answer_target(context, examples[index], answers[index], Origin.BASE, "sample")
            for index in self.kept(answers)
        ]

    def kept(self, answers: Sequence[Generation]) -> list[int]:
        """Indices of the answers that are trained on, in order."""
        least = 1 if self.stubs == "keep" else 2
        whole = [
            i for i, one in enumerate(answers) if one.finish == "stop" and len(one.text.strip().splitlines()) >= least
        ]
        dropped = int(self.shortest * len(whole))
        return sorted(sorted(whole, key=lambda i: (len(answers[i].token_ids), i))[dropped:])
