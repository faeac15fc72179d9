"""Strategy choice by self-aligned perplexity (SPPL, arXiv 2502.11779): of several kinds of target the likeliest.

SPPL(x, y) = exp(-mean log p_0(y_t | context, y_<t)), the context holding ``shots`` of the model's own *right* answers
to other questions, the request to follow their style, and the question x; answer tokens only. The strategy whose mean
over the first ``subset`` questions is lowest makes all targets. Here the strategies are the gold answer and the model's
rewrites of it by two prompts; the authors' are prompts to an outside model. Prompts in words of our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dasd_bench.api import (
    GREEDY,
    Example,
    Message,
    Method,
    MethodContext,
    Origin,
    Target,
    TokenScores,
    answer_target,
    nothing_kept,
    option,
    sample_answers,
)

STRATEGIES = ("gold", "rewrite", "guide")


@dataclass(frozen=True)
class Sppl(Method):
    """Gold stands in where the chosen strategy's answer is wrong."""

    name = "sppl"
    summary = "SPPL: gold or rewrites, whichever the model finds likeliest behind its own right answers."
    paper = "arXiv 2502.11779"

    shots: int = option(2, help="Own right answers to other questions in the context.", minimum=1, maximum=16)
    subset: int = option(50, help="Questions on which the strategies are compared.", minimum=1)

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        own = [one[0] for one in sample_answers(context, examples, sampling=GREEDY, label="answer")]
        right = [(e, one.generation.text) for e, one in zip(examples, own, strict=True) if one.right]
        if len(right) <= self.shots:
            tried = f"{len(right)} of {len(examples)} own answers are right and {self.shots + 1} are needed"
            raise nothing_kept(self.name, tried, "lower shots or take an abler model")
        compared = examples[: self.subset]
        chats = [aligned_prompt(example, right, self.shots) for example in compared]
        means = {}
        for strategy in STRATEGIES:
            made = self.targets(strategy, compared, context)
            means[strategy] = float(np.mean([sppl(one) for one in context.score(made, compared, prompts=chats)]))
        best = min(STRATEGIES, key=means.__getitem__)
        listed = ", ".join(f"{name} {mean:.3f}" for name, mean in means.items())
        context.warn(f"sppl: {best} is chosen on {len(compared)} questions (mean SPPL: {listed}).")
        return self.targets(best, examples, context)

    def targets(self, strategy: str, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        """One target per example."""
        if strategy == "gold":
            return [context.reference_target(example) for example in examples]
        style = "multi-turn" if strategy == "rewrite" else "guide"
        prompts = [context.rewrite_prompt(example, style) for example in examples]
        made = sample_answers(context, examples, prompts=prompts, sampling=GREEDY, label=strategy)
        return [
            answer_target(context, example, one[0].generation, Origin.CANDIDATE, strategy)
            if one[0].right
            else context.reference_target(example, f"gold:{one[0].verdict.reason.value}", accepted=False)
            for example, one in zip(examples, made, strict=True)
        ]


def aligned_prompt(example: Example, right: Sequence[tuple[Example, str]], shots: int) -> list[Message]:
    """The question behind the first ``shots`` right answers to other questions."""
    others = [(other, text) for other, text in right if other.id != example.id][:shots]
    shown = "\n\n".join(f"Question: {other.prompt}\nAnswer: {text}" for other, text in others)
    ask = f"{shown}\n\nAnswer the next question in the style of these answers.\n\n{example.prompt}"
    return [Message("user", ask)]


def sppl(scores: TokenScores) -> float:
    """exp of the mean nll of the answer, its end token aside."""
    return float(np.exp(-scores.logp[:-1].astype(np.float64).mean())) if len(scores.logp) > 1 else 1.0
