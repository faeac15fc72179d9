"""What methods that train on the model's own answers share: sampling with verdicts, targets of them, and the stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dasd_bench.errors import TrainingError
from dasd_bench.methods.context import Generation, MethodContext, ModelRef, Sampling
from dasd_bench.types import Example, Message, Origin, Target, Verdict

NO_TURNS = "asks the model in turns of a chat, and --chat-template off has none: take auto or plain"
"""What a method gives as ``lacking`` that writes requests of its own."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer of the model with the task's verdict; ``right`` where it is correct and ended by itself."""

    generation: Generation
    verdict: Verdict

    @property
    def right(self) -> bool:
        """Whether it may be trained on."""
        return self.verdict.correct and self.generation.finish == "stop"


def sample_answers(
    context: MethodContext,
    examples: Sequence[Example],
    *,
    count: int = 1,
    sampling: Sampling,
    label: str,
    prompts: Sequence[Sequence[Message]] | None = None,
    model: ModelRef | None = None,
) -> list[list[Sample]]:
    """``count`` answers per example, in order, graded in one go; ``prompts`` are the plain ones by default."""
    chats = prompts if prompts is not None else [context.plain_prompt(example) for example in examples]
    asked = [example for example in examples for _ in range(count)]
    made = context.generate(
        [chat for chat in chats for _ in range(count)],
        max_new_tokens=[context.new_tokens(example) for example in asked],
        sampling=sampling,
        label=label,
        model=model,
    )
    verdicts = context.grade_all(asked, [one.text for one in made])
    samples = [Sample(*pair) for pair in zip(made, verdicts, strict=True)]
    return [samples[start : start + count] for start in range(0, len(samples), count)]


def answer_target(
    context: MethodContext,
    example: Example,
    answer: Generation,
    origin: Origin,
    reason: str,
    *,
    notes: dict[str, float] | None = None,
    prompt: Sequence[Message] | None = None,
) -> Target:
    """A generated answer as an accepted target of one origin."""
    origins = np.full(len(answer.token_ids), origin, dtype=np.uint8)
    return context.target(example, answer.token_ids, origins, reason=reason, accepted=True, notes=notes, prompt=prompt)


def nothing_kept(method: str, what: str, advice: str) -> TrainingError:
    """The error of a method, or of its first round, that keeps nothing: ``what`` happened and what to do."""
    return TrainingError(f"{method}: {what}, so there is nothing to train on; all answers are in the store: {advice}.")
