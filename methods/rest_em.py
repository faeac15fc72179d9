"""ReST-EM (arXiv 2312.06585): several right samples per question, over rounds that each train the base anew.

E-step: ``samples`` answers per question at temperature 0.7, top-k 40, by the last round's model; at most ``keep_most``
right ones are kept per question. M-step: the base is trained on them. No gold answer is mixed in. Differs from the
authors: zero-shot prompts, a fixed number of steps in place of stopping on a validation reward, LoRA by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dasd_bench.api import (
    Example,
    Method,
    MethodContext,
    ModelRef,
    Origin,
    Sampling,
    Target,
    answer_target,
    nothing_kept,
    option,
    sample_answers,
)


@dataclass(frozen=True)
class RestEm(Method):
    """The right samples of the last round, the first ``keep_most`` of each question."""

    name = "rest-em"
    summary = "ReST-EM: several right samples per question, over rounds of training."
    paper = "arXiv 2312.06585"
    trains = True

    rounds: int = option(2, help="Rounds of sampling; the model is trained between two.", minimum=1, maximum=64)
    samples: int = option(32, help="Answers per question and round.", minimum=1, maximum=1024)
    keep_most: int = option(10, help="Right answers that are kept per question.", minimum=1)
    temperature: float = option(0.7, help="Sampling temperature.", minimum=0.0, maximum=5.0)
    top_k: int = option(40, help="Top-k truncation; 0 is off.", minimum=0)

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        model: ModelRef | None = None
        targets: list[Target] = []
        for number in range(1, self.rounds + 1):
            drawn = sample_answers(
                context,
                examples,
                count=self.samples,
                sampling=Sampling(self.temperature, top_k=self.top_k),
                label=f"samples (round {number})",
                model=model,
            )
            found = [
                answer_target(context, example, one.generation, Origin.BASE, "sample")
                for example, own in zip(examples, drawn, strict=True)
                for one in [one for one in own if one.right][: self.keep_most]
            ]
            if not found and number == 1:
                tried = f"none of the {self.samples * len(examples)} samples of round 1 is right"
                raise nothing_kept(self.name, tried, "take more samples or an abler model")
            if not found:
                context.warn(f"rest-em: round {number} keeps no answer; the targets are those of round {number - 1}.")
                break
            targets = found
            if number < self.rounds:
                model = context.train(targets, label=f"round {number}")
        return targets
