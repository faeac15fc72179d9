"""Replay: gold answers, and among them a share of general data, so that less is forgotten. A plain baseline.

The general data are rows of a JSON-lines file (``prompt`` or ``messages``, and ``target``), or the gold answers of the
train splits of other tasks. ``share`` is their part of all targets; rows are drawn without putting back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dasd_bench.api import Example, Message, Method, MethodContext, Origin, RunFacts, Target, option, target_rows


@dataclass(frozen=True)
class Replay(Method):
    """All gold targets, then share / (1 - share) times as many replayed ones (fewer where there are no more)."""

    name = "replay"
    summary = "Gold answers with a share of general data from a file or from other tasks."

    share: float = option(0.1, help="Share of the targets that is replayed.", minimum=0.001, maximum=0.95)
    file: str = option("", help="JSON lines with prompt or messages, and target.")
    tasks: str = option("", help="Tasks whose train splits are replayed, separated by slashes.")

    def __post_init__(self) -> None:
        if self.file and self.tasks:
            raise ValueError("give file or tasks, not both.")

    def stochastic(self) -> bool:
        return True

    def files(self) -> Sequence[str]:
        return [self.file] if self.file else []

    def other_tasks(self) -> Sequence[str]:
        return [name for name in self.tasks.split("/") if name]

    def lacking(self, facts: RunFacts) -> str:
        if not self.file and not self.tasks:
            return "needs data to replay: replay+file=FILE.jsonl or replay+tasks=hellaswag"
        trained = sorted(set(self.other_tasks()) & set(facts.tasks))
        return f"replays {trained[0]}, which is trained on anyway; name other tasks" if trained else ""

    def make_targets(self, examples: Sequence[Example], context: MethodContext) -> list[Target]:
        if self.file:
            general = [(row.messages, row.target) for row in target_rows(self.file)]
        else:
            others = [example for name in self.other_tasks() for example in context.task_examples(name)]
            general = [((Message("user", one.prompt),), one.reference) for one in others]
        if any(prompt is None for prompt, _ in general):
            raise ValueError(f"{self.file}: every row to replay needs a prompt or messages")
        count = min(len(general), round(self.share / (1 - self.share) * len(examples)))
        chosen = context.rng("replay").permutation(len(general))[:count]
        targets = [context.reference_target(example) for example in examples]
        for number, index in enumerate(sorted(chosen)):
            prompt, text = general[index]
            carrier = examples[number % len(examples)]
            targets.append(
                context.text_target(carrier, text, Origin.GOLD, reason="replay", accepted=True, prompt=prompt)
            )
        return targets
