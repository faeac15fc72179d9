"""Self-Instruct (arXiv 2212.10560), short form: the model writes questions like the given ones, and answers them.

New questions come from a prompt that lists ``shown`` of the training questions; one is kept where its ROUGE-L with
every question so far, given or written, is below ``overlap``. Nothing is graded, since new questions have no gold
answer; the given ones are trained on with their gold answers. Differs from the authors: one request for question and
answer each, no classification branch, prompts in words of our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dasd_bench.api import (
    NO_TURNS,
    Example,
    Message,
    Method,
    MethodContext,
    Origin,
    RunFacts,
    Sampling,
    Target,
    answer_target,
    option,
)


@dataclass(frozen=True)
class SelfInstruct(Method):
    """Gold targets, then the model's own questions with its own answers; each stands under a question it was shown."""

    name = "self-instruct"
    summary = "Self-Instruct: gold answers, and questions that the model writes and answers itself."
    paper = "arXiv 2212.10560"

    share: float = option(0.5, help="New questions tried, as a share of the given ones.", minimum=0.0, maximum=100.0)
    shown: int = option(8, help="Questions shown in the request for a new one.", minimum=1, maximum=64)
    overlap: float = option(0.7, help="ROUGE-L from which on a question is too near.", minimum=0.01, maximum=1.0)
    temperature: float = option(0.7, help="Sampling temperature of questions.", minimum=0.0, maximum=5.0)

    def lacking(self, facts: RunFacts) -> str:
        return NO_TURNS if facts.chat_template == "off" else ""

    def stochastic(self) -> bool:
        return True

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        rng = context.rng("shown")
        asked = [rng.permutation(len(examples))[: self.shown] for _ in range(round(self.share * len(examples)))]
        written = context.generate(
            [[request([examples[i].prompt for i in shown])] for shown in asked],
            max_new_tokens=[256] * len(asked),
            sampling=Sampling(self.temperature, 0.95),
            label="question",
        )
        kept = novel([example.prompt for example in examples], [one.text.strip() for one in written], self.overlap)
        kept = [i for i in kept if written[i].finish == "stop"]
        seeds = [examples[asked[i][0]] for i in kept]
        prompts = [(Message("user", written[i].text.strip()),) for i in kept]
        answers = context.generate(prompts, max_new_tokens=[context.new_tokens(e) for e in seeds], label="own answer")
        targets = [context.reference_target(example) for example in examples]
        for example, prompt, answer in zip(seeds, prompts, answers, strict=True):
            if answer.finish == "stop" and answer.text.strip():
                targets.append(answer_target(context, example, answer, Origin.BASE, "own question", prompt=prompt))
        return targets


def request(shown: Sequence[str]) -> Message:
    """The request for one more question."""
    listed = "\n\n".join(f"Question {number}:\n{text}" for number, text in enumerate(shown, 1))
    return Message(
        "user",
        f"Here are some questions.\n\n{listed}\n\nWrite one new question of the same kind and form about something "
        "else. Give the question alone, without an answer.",
    )


def novel(pool: Sequence[str], written: Sequence[str], overlap: float) -> list[int]:
    """Indices of the texts that are not empty and whose ROUGE-L with all before them is below ``overlap``."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    known, kept = list(pool), []
    for index, text in enumerate(written):
        if text and all(scorer.score(other, text)["rougeL"].fmeasure < overlap for other in known):
            known.append(text)
            kept.append(index)
    return kept
