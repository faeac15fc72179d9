"""On-policy self-distillation (OPSD, arXiv 2601.18734): the model judges its own completions with the solution.

y ~ p(.|x); L = mean_t D_beta(p_0(.|x, y*, y_<t), p(.|x, y_<t)), the teacher fixed at the untrained weights. Defaults
are those of the paper's third version: ``beta`` 0, which is KL(teacher || model), and ``clip`` .05 (.06 for 8B). As
in the authors' code the clip acts on what each vocabulary entry adds to a token's divergence, not on the sum.

Cost: generating a batch of answers at every step takes most of the time; then one forward pass of the base per pack
on a prompt with the solution in it, and the logits of both, 128 tokens at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

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
    temperature_option,
)

if TYPE_CHECKING:
    from torch import Tensor

TEACHER = (
    "{prompt}\n\nThis is a reference solution:\n{reference}\n\nMake sure you understand why each of its steps holds. "
    "Then work the problem out in your own words, step by step, to the same final answer."
)


@dataclass(frozen=True)
class Opsd(Method):
    """The mean is over the tokens of a batch, as in the authors' code."""

    name = "opsd"
    summary = "OPSD: the model's own completions, pulled towards the untrained model that sees the solution."
    paper = "arXiv 2601.18734"
    rollouts = True
    teacher = "base"
    # Third version; about 100 steps there, thinking on for the teacher and off for the student.
    card: ClassVar[dict[str, Any]] = {
        "lora_rank": 64,
        "lora_alpha": 128.0,
        "lr": 5e-6,
        "batch_size": 32,
        "grad_clip": 0.1,
    }

    beta: float = divergence_option(0.0)
    clip: float = option(0.05, help="Most that one vocabulary entry adds, in nats; 0 for no limit.", minimum=0.0)
    loss_top_k: int = option(0, help="Teacher's likeliest tokens that the loss sees; 0 for all.", minimum=0)
    temperature: float = temperature_option(1.1)
    top_p: float = option(0.95, help="Nucleus truncation while sampling.", minimum=0.01, maximum=1.0)
    top_k: int = option(20, help="Top-k truncation while sampling; 0 is off.", minimum=0)
    new_tokens: int = new_tokens_option(256, theirs=1024)

    def teacher_prompts(self, examples: Sequence[Example], context: MethodContext) -> list[list[list[Message]]]:
        return one_teacher(TEACHER, examples)

    def rollout(self, examples: Sequence[TrainExample], context: RolloutContext) -> list[TrainExample]:
        sampling = Sampling(self.temperature, self.top_p, self.top_k)
        return context.completions(examples, max_new_tokens=self.new_tokens, sampling=sampling)

    def token_loss(self, live: LiveLogits) -> Tensor:
        return generalized_jsd(
            live.teacher_logits[0],
            live.logits,
            self.beta,
            temperature=self.temperature,
            top_k=self.loss_top_k,
            support="teacher",
            clip=self.clip,
        )
