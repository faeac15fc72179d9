"""Hinted Decoding (arXiv 2602.12222): answer-aware where the hinted model is sure, the model's own words elsewhere.

p sees question and answer, q the question alone. lambda_t = clamp(beta H(p_t) / log V, 0, 1), and the token is drawn
from (1 - lambda) log p + lambda log q at temperature 0.3, top-p 0.95; the first from p alone, all after ``\\boxed{``
from q alone. Right answers of the plain model are kept as they are; only wrong ones are decoded so, and graded.
Differs from the authors: this project's answer-aware prompt in place of their analysis section, no stop on repeated
30-grams (a task's budget ends them). Their function's default beta is 0.7, their demonstration's 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dasd_bench.api import (
    GREEDY,
    Choice,
    DualStep,
    Example,
    Method,
    MethodContext,
    Origin,
    Rule,
    RunFacts,
    Sampling,
    Target,
    answer_target,
    check_rewrites,
    mixture,
    mixture_weight,
    option,
    sample_answers,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Mix(Rule):
    """Draws from the mixture; ``base`` is q and ``reference`` is p."""

    uses_draws = True
    uses_tokens = True

    beta: float = 0.7
    switch: str = "\\boxed{"
    temperature: float = 0.3
    top_p: float = 0.95

    def mixed(self, step: DualStep) -> Tensor:
        """Unnormalised log-probabilities [B, V]."""
        import torch

        weight = mixture_weight(step.reference_logp, self.beta).masked_fill(step.position == 0, 0.0)
        if self.switch and step.decode is not None:
            ends = [self.switch in step.decode(tokens) for tokens in step.tokens]
            weight = weight.masked_fill(torch.tensor(ends, device=weight.device), 1.0)
        return mixture(step.reference_logp, step.base_logp, weight)

    def __call__(self, step: DualStep) -> Choice:
        import torch

        assert step.draw is not None
        token = step.draw(self.mixed(step), Sampling(self.temperature, self.top_p))
        own = (step.base_logp > step.reference_logp).gather(1, token[:, None])[:, 0]
        return Choice(token, torch.where(own, int(Origin.BASE), int(Origin.CANDIDATE)).to(torch.uint8))


@dataclass(frozen=True)
class HintedDecoding(Method):
    """Own right answers, hinted right answers, then gold (or nothing)."""

    name = "hinted-decoding"
    summary = "Hinted Decoding: own right answers; wrong ones decoded again with the answer as a hint."
    paper = "arXiv 2602.12222"

    beta: float = option(0.7, help="How soon the model's own words take over; 0 is a plain rewrite.", minimum=0.0)
    temperature: float = option(0.3, help="Temperature of the mixture; 0 is greedy.", minimum=0.0, maximum=5.0)
    top_p: float = option(0.95, help="Nucleus truncation of the mixture.", minimum=0.01, maximum=1.0)
    switch: str = option("\\boxed{", help="Text after which the model's own words alone go on; empty for none.")
    prompt: str = option("guide", help="The prompt with the answer.", choices=("guide", "multi-turn"))
    on_wrong: str = option("gold", help="What stands in for a wrong answer.", choices=("gold", "drop"))

    def lacking(self, facts: RunFacts) -> str:
        if facts.backend == "vllm":
            return "needs whole distributions, which vLLM does not give: leave out --engine vllm"
        return ""

    def stochastic(self) -> bool:
        return True

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        own = [one[0] for one in sample_answers(context, examples, sampling=GREEDY, label="answer")]
        wrong = [example for example, one in zip(examples, own, strict=True) if not one.right]
        decoded = context.dual_decode(
            [context.plain_prompt(example) for example in wrong],
            [context.rewrite_prompt(example, self.prompt) for example in wrong],
            Mix(self.beta, self.switch, self.temperature, self.top_p),
            max_new_tokens=[context.new_tokens(example) for example in wrong],
            label="hinted decoding",
        )
        hinted = iter(zip(decoded, check_rewrites(wrong, decoded, context, min_ratio=0.0), strict=True))
        targets = []
        for example, one in zip(examples, own, strict=True):
            if one.right:
                targets.append(answer_target(context, example, one.generation, Origin.BASE, "own"))
                continue
            made, check = next(hinted)
            if check.accepted:
                targets.append(context.target(example, made.token_ids, made.origin, reason="hinted", accepted=True))
            elif self.on_wrong == "gold":
                targets.append(context.reference_target(example, f"gold:{check.reason}", accepted=False))
        return targets
