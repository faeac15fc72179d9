"""Minimum change, as a self-edit: the model mends its own wrong answer with as few changes as it can.

After arXiv 2402.11192, whose editor is GPT-4 with few-shot prompts per task; here the model itself edits, zero-shot, in
words of our own, and the result is graded: this variant is ours. Right first answers are trained on as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dasd_bench.api import (
    GREEDY,
    NO_TURNS,
    Example,
    Message,
    Method,
    MethodContext,
    Origin,
    RunFacts,
    Target,
    answer_target,
    option,
    sample_answers,
)

EDIT = (
    "The correct solution is:\n\n{reference}\n\nRepeat your answer with as few words changed as possible, so that "
    "every step and the final answer are correct. Keep your own words wherever they are right. Do not mention the "
    "correct solution or the changes; give the answer alone."
)


@dataclass(frozen=True)
class MinChange(Method):
    """y = the greedy answer where it is right, else the model's own edit of it where that is right, else gold."""

    name = "min-change"
    summary = "Minimum change by the model itself (ours): its own answer, edited where it is wrong."
    paper = "arXiv 2402.11192"
    card: ClassVar[dict[str, Any]] = {
        "lora_rank": 8, "lora_alpha": 8.0, "lora_targets": "q_proj,v_proj", "lr": 2e-5, "warmup": 10.0,
        "batch_size": 32, "epochs": 20.0,
    }  # fmt: skip

    on_wrong: str = option("gold", help="What stands in for a wrong edit.", choices=("gold", "drop"))

    def lacking(self, facts: RunFacts) -> str:
        return NO_TURNS if facts.chat_template == "off" else ""

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        first = [own[0] for own in sample_answers(context, examples, sampling=GREEDY, label="answer")]
        wrong = [i for i, one in enumerate(first) if not one.right]
        edits = sample_answers(
            context,
            [examples[i] for i in wrong],
            prompts=[
                [
                    *context.plain_prompt(examples[i]),
                    Message("assistant", first[i].generation.text),
                    Message("user", EDIT.format(reference=examples[i].reference)),
                ]
                for i in wrong
            ],
            sampling=GREEDY,
            label="edit",
        )
        edited = {i: own[0] for i, own in zip(wrong, edits, strict=True)}
        targets = []
        for i, (example, own) in enumerate(zip(examples, first, strict=True)):
            if own.right:
                targets.append(answer_target(context, example, own.generation, Origin.BASE, "own"))
            elif edited[i].right:
                targets.append(answer_target(context, example, edited[i].generation, Origin.CANDIDATE, "edit"))
            elif self.on_wrong == "gold":
                reason = f"gold:{edited[i].verdict.reason.value}"
                targets.append(context.reference_target(example, reason, accepted=False))
        return targets
