"""UniSD (arXiv 2605.06597): its agreement weights and its EMA teacher, on on-policy self-distillation.

y ~ p(.|x); the loss of a token is D_alpha between the teacher shown the gold answer and the model, times an agreement
weight: K further teachers see other examples with their answers, and where they disagree about y, it counts less.
``token``: w_t = 1 / (1 + gamma min(var_t / q95, 10)), at least .01, var_t the variance of log p(y_t) over the K
contexts and q95 its 95 % quantile in the batch; weighted mean over each answer, then over answers. ``sequence``: w =
exp(-gamma var) of the mean log p. All teachers have the same weights, by default an average of the trained ones.

Cost: decoding a batch of answers at every step; then, before the pass that is trained, 2 (1 + K) forward passes of
teachers and one of the model (weights are fixed on the whole batch first, then the loss needs the teachers again), on
prompts that hold ``demonstrations`` examples; 1 + K matrices of logits, 128 tokens at a time; for ``ema`` a copy of
the trained weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dasd_bench.api import (
    Example,
    LiveLogits,
    LiveTokens,
    Message,
    Method,
    MethodContext,
    RolloutContext,
    Sampling,
    TrainExample,
    divergence_option,
    generalized_jsd,
    new_tokens_option,
    option,
    teacher_decay_option,
    teacher_every_option,
    teacher_option,
    temperature_option,
)

if TYPE_CHECKING:
    from torch import Tensor

OWN = "{prompt}\n\nHere is an example of an answer to this question:\n{reference}\n\nNow answer in your own way."
OTHER = "Question:\n{prompt}\n\nAnswer:\n{reference}\n\n"
QUESTION = "Question:\n{prompt}\n\nNow answer this last question in your own way."


@dataclass(frozen=True)
class UniSd(Method):
    """Without agreement (``none``) this is ``sdft-onpolicy`` with UniSD's defaults, at the cost of one more pass."""

    name = "unisd"
    summary = "UniSD: on-policy self-distillation, weighted by how far teachers with other contexts agree."
    paper = "arXiv 2605.06597"
    rollouts = True
    denominator = "rows"
    online = True
    scope = "batch"
    card: ClassVar[dict[str, Any]] = {
        "lora_rank": 64,
        "lora_alpha": 128.0,
        "lora_dropout": 0.05,
        "lr": 2e-5,
        "epochs": 1.0,
        "warmup": 0.1,
    }

    agreement: str = option("token", help="What is weighted by agreement.", choices=("token", "sequence", "none"))
    gamma: float = option(0.01, help="Strength of the agreement weights.", minimum=0.0, maximum=1000.0)
    contexts: int = option(3, help="Further teachers (K).", minimum=2, maximum=16)
    demonstrations: int = option(3, help="Other examples in the prompt of each.", minimum=1, maximum=16)
    teacher: str = teacher_option()
    teacher_decay: float = teacher_decay_option(0.9)
    teacher_every: int = teacher_every_option(10)
    alpha: float = divergence_option(0.0)
    temperature: float = temperature_option(0.7)
    new_tokens: int = new_tokens_option(256, theirs=1024)

    def teacher_prompts(self, examples: Sequence[Example], context: MethodContext) -> list[list[list[Message]]]:
        shown = [OTHER.format(prompt=one.prompt, reference=one.reference) for one in examples]
        found = []
        for place, one in enumerate(examples):
            texts = [OWN.format(prompt=one.prompt, reference=one.reference)]
            for k in range(0 if self.agreement == "none" else self.contexts):
                order = context.rng("contexts", one.id, k).permutation(len(examples))
                others = [shown[i] for i in order[: self.demonstrations + 1] if i != place][: self.demonstrations]
                texts.append("".join(others) + QUESTION.format(prompt=one.prompt))
            found.append([[Message("user", text)] for text in texts])
        return found

    def rollout(self, examples: Sequence[TrainExample], context: RolloutContext) -> list[TrainExample]:
        sampling = Sampling(self.temperature)
        return context.completions(examples, max_new_tokens=self.new_tokens, sampling=sampling)

    def online_weights(self, live: LiveTokens) -> Tensor:
        assert live.teacher_logp is not None
        if self.agreement == "none":
            return live.static.new_ones(live.static.shape)
        logp = live.teacher_logp[1:]
        length = live.row_sums(live.static.new_ones(live.static.shape)).clamp(min=1.0)
        if self.agreement == "sequence":
            variance = (live.row_sums(logp) / length).var(0, correction=0)
            return (-self.gamma * variance).exp().clamp(min=1e-6)[live.row]
        variance = logp.var(0)
        spread = (variance / variance.quantile(0.95).clamp(min=1e-6)).clamp(max=10.0)
        weights = (1.0 / (1.0 + self.gamma * spread)).clamp(min=0.01)
        # The trainer divides a row by its number of tokens; the weighted mean is divided by the sum of the weights.
        return weights * (length / live.row_sums(weights).clamp(min=1.0))[live.row]

    def token_loss(self, live: LiveLogits) -> Tensor:
        return generalized_jsd(live.teacher_logits[0], live.logits, self.alpha, temperature=self.temperature)
