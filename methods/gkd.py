"""Generalized knowledge distillation (GKD, arXiv 2306.13649), the teacher being the model itself with the gold answer.

For a share ``share`` (GKD's lambda) of each batch the live model generates an answer, for the rest the gold answer is
taken; on both, the loss of a token is the generalized JSD between the teacher, p(.|x, y*, y_<t), and the model,
p(.|x, y_<t). ``beta`` 0 is KL(teacher || model), 1 is KL(model || teacher), between them the JSD of GKD's equation 1.
The teacher's weights are the untrained model's (``base``) or the current ones without gradient (``live``).

Cost: one forward pass of the teacher per pack on a prompt with the gold answer in it, the logits of both (128 tokens
at a time), and decoding of ``share`` of the answers at every step, which takes most of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING

from dasd_bench.api import (
    Example,
    LiveLogits,
    Message,
    Method,
    MethodContext,
    RolloutContext,
    Sampling,
    TrainExample,
    generalized_jsd,
    one_teacher,
    option,
)

if TYPE_CHECKING:
    from torch import Tensor

TEACHER = "{prompt}\n\nA correct answer to this is:\n\n{reference}\n\nNow give your own answer."


@dataclass(frozen=True)
class Gkd(Method):
    """The mean is over the tokens of a batch, drawn and gold alike, as in TRL's trainer."""

    name = "gkd"
    summary = "GKD: generalized JSD to the same model that sees the gold answer, partly on the model's own completions."
    paper = "arXiv 2306.13649"
    rollouts = True

    teacher: str = option("base", help="Weights of the teacher: untrained or current.", choices=("base", "live"))
    share: float = option(
        0.5, help="Share of answers that the live model generates (lambda).", minimum=0.0, maximum=1.0
    )
    beta: float = option(0.5, help="0 forward KL, 1 reverse KL, between them the JSD.", minimum=0.0, maximum=1.0)
    temperature: float = option(0.9, help="Sampling temperature; 0 is greedy.", minimum=0.0, maximum=5.0)
    new_tokens: int = option(128, help="Generation budget in tokens.", minimum=1)

    def teacher_prompts(self, examples: Sequence[Example], context: MethodContext) -> list[list[list[Message]]]:
        return one_teacher(TEACHER, examples)

    def rollout(self, examples: Sequence[TrainExample], context: RolloutContext) -> list[TrainExample]:
        # Batches are shuffled, so every so-many-th place is a random choice, and the share is met exactly.
        first = context.step * len(examples)
        places = [
            i for i in range(len(examples)) if floor((first + i + 1) * self.share) > floor((first + i) * self.share)
        ]
        mixed = list(examples)
        if places:
            asked = [examples[i] for i in places]
            sampling = Sampling(self.temperature)
            drawn = context.completions(asked, max_new_tokens=self.new_tokens, sampling=sampling)
            for i, one in zip(places, drawn, strict=True):
                mixed[i] = one
        return mixed

    def token_loss(self, live: LiveLogits) -> Tensor:
        return generalized_jsd(live.teacher_logits[0], live.logits, self.beta)
