"""On-policy self-distillation (SDFT, arXiv 2601.19897): the model follows itself with the gold answer in the prompt.

y ~ p(.|x); L = mean over answers of mean_t D(p_bar(.|x, y*, y_<t), p(.|x, y_<t)) over the whole vocabulary, with
p_bar an exponential moving average of p. The paper writes the reverse KL; its authors say (issue 5 of their
repository) that all their results used the forward one, KL(teacher || model): ``alpha`` 0, the default here. 1 is the
reverse, between them a JSD.

This is not the off-policy SDFT of arXiv 2402.13669, which is ``self-distill`` here.

Cost: generating a batch of answers at every step takes most of the time; then one forward pass of the teacher per
pack on a prompt with the gold answer in it, the logits of both (128 tokens at a time), and for ``ema`` a copy of the
trained weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dasd_bench.api import (
    Example,
    LiveLogits,
    Message,
    Method,
    MethodContext,
    RolloutContext,
    Sampling,
    TrainExample,
    divergence_option,
    generalized_jsd,
    new_tokens_option,
    one_teacher,
    option,
    teacher_decay_option,
    teacher_every_option,
    teacher_option,
    temperature_option,
)

if TYPE_CHECKING:
    from torch import Tensor

TEACHER = (
    "{prompt}\n\nHere is an example of an answer to this question:\n{reference}\n\n"
    "Now answer in your own way, with your reasoning."
)


@dataclass(frozen=True)
class SdftOnPolicy(Method):
    """An answer of ``skip`` tokens or fewer counts as a loss of 0, as in TRL's trainer."""

    name = "sdft-onpolicy"
    summary = "On-policy SDFT: the model's own completions, pulled towards the same model that sees the gold answer."
    paper = "arXiv 2601.19897"
    rollouts = True
    denominator = "rows"
    # Full fine-tuning of a 7B model.
    card: ClassVar[dict[str, Any]] = {"lora_rank": 0, "lr": 2e-5, "batch_size": 32, "epochs": 1.0, "warmup": 0.1}

    teacher: str = teacher_option()
    teacher_decay: float = teacher_decay_option(0.99)
    teacher_every: int = teacher_every_option(1)
    alpha: float = divergence_option(0.0)
    skip: int = option(3, help="First tokens of an answer that have no loss.", minimum=0)
    temperature: float = temperature_option(1.0)
    new_tokens: int = new_tokens_option(256, theirs=1024)

    def teacher_prompts(self, examples: Sequence[Example], context: MethodContext) -> list[list[list[Message]]]:
        return one_teacher(TEACHER, examples)

    def rollout(self, examples: Sequence[TrainExample], context: RolloutContext) -> list[TrainExample]:
        sampling = Sampling(self.temperature)
        targets = context.completions(examples, max_new_tokens=self.new_tokens, sampling=sampling)
        late = [(np.arange(len(one.target_ids)) >= self.skip).astype(np.float32) for one in targets]
        return [replace(one, weights=weights) for one, weights in zip(targets, late, strict=True)]

    def token_loss(self, live: LiveLogits) -> Tensor:
        return generalized_jsd(live.teacher_logits[0], live.logits, self.alpha, temperature=self.temperature)
