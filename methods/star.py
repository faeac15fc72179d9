"""STaR (arXiv 2203.14465): the model's own right answers, wrong ones tried again with the gold answer as a hint.

Each round answers every question greedily with the last round's model; where that is wrong, it is asked again with the
hint, and the right answers are kept *without* it. The base is then trained on them anew. After ``rounds`` such rounds
the arm itself is trained, again from the base. Differs from the authors: zero-shot prompts in place of few-shot, every
round with the arm's own steps in place of 20 % more each, LoRA by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dasd_bench.api import (
    GREEDY,
    Example,
    Method,
    MethodContext,
    ModelRef,
    Origin,
    Target,
    answer_target,
    nothing_kept,
    option,
    sample_answers,
)


@dataclass(frozen=True)
class Star(Method):
    """The union of right and hinted right answers of the last round."""

    name = "star"
    summary = "STaR: own right answers, hinted where wrong, over rounds of training."
    paper = "arXiv 2203.14465"
    trains = True
    # Full fine-tuning of GPT-J.
    card: ClassVar[dict[str, Any]] = {
        "lora_rank": 0,
        "lr": 1e-6,
        "batch_size": 80,
        "warmup": 100.0,
        "weight_decay": 0.0,
    }

    rounds: int = option(2, help="Rounds of answering; the model is trained between two.", minimum=1, maximum=64)
    rationalize: bool = option(True, help="Ask again with the gold answer where the answer is wrong.")
    prompt: str = option("guide", help="The prompt with the hint.", choices=("guide", "multi-turn"))

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        model: ModelRef | None = None
        targets: list[Target] = []
        for number in range(1, self.rounds + 1):
            found = self.answers(examples, context, number, model)
            if not found and number == 1:
                advice = "take rationalize=true, a longer --max-new-tokens or an abler model"
                raise nothing_kept(self.name, f"no answer of round 1 is right on {len(examples)} questions", advice)
            if not found:
                context.warn(f"star: round {number} keeps no answer; the targets are those of round {number - 1}.")
                break
            targets = found
            if number < self.rounds:
                model = context.train(targets, label=f"round {number}")
        return targets

    def answers(
        self, examples: Sequence[Example], context: MethodContext, number: int, model: ModelRef | None
    ) -> list[Target]:
        """The right answers of one round, in the examples' order."""
        first = sample_answers(context, examples, sampling=GREEDY, label=f"answer (round {number})", model=model)
        wrong = [e for e, own in zip(examples, first, strict=True) if self.rationalize and not own[0].right]
        hinted = sample_answers(
            context,
            wrong,
            prompts=[context.rewrite_prompt(example, self.prompt) for example in wrong],
            sampling=GREEDY,
            label=f"hinted answer (round {number})",
            model=model,
        )
        again = {example.id: own[0] for example, own in zip(wrong, hinted, strict=True)}
        targets = []
        for example, own in zip(examples, first, strict=True):
            if own[0].right:
                targets.append(answer_target(context, example, own[0].generation, Origin.BASE, "own"))
            elif (hint := again.get(example.id)) is not None and hint.right:
                targets.append(answer_target(context, example, hint.generation, Origin.CANDIDATE, "hinted"))
        return targets
