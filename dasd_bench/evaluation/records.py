"""What an evaluation is asked and what it gives: settings, records, the task's result. No torch, no lm-eval."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from dasd_bench.results.samples import Sample
from dasd_bench.tasks.base import Row, Task


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """How a task is scored.

    ``num_fewshot`` None keeps the YAML's number, and a YAML that says 0 is never overridden, as in lm-eval. ``limit``
    takes the first items. ``chat_template`` puts the prompt into the model's chat template, shots as turns.
    ``fewshot_seed`` is lm-eval's default. ``data_dir`` and ``offline`` say where few-shot rows may come from.
    ``validation`` says that the scored rows come from the split that shots are drawn from: then they are no shots.
    ``truncate`` allows prompts longer than the context to lose their beginning, as lm-eval does with a warning only.
    ``thinking_tokens`` are added to the budget of a generation, for a think block before the answer; stop strings then
    count behind the block alone. ``max_answer_tokens`` lowers the task's own budget; 0 keeps it.
    """

    num_fewshot: int | None = None
    limit: int | None = None
    chat_template: bool = True
    system_prompt: str | None = None
    fewshot_seed: int = 1234
    data_dir: Path | None = None
    offline: bool = False
    truncate: bool = False
    validation: bool = False
    thinking_tokens: int = 0
    max_answer_tokens: int = 0

    def lowers(self, task: Task) -> bool:
        """Whether answers may be shorter than the task itself allows."""
        return bool(self.max_answer_tokens) and self.max_answer_tokens < (task.max_new_tokens or 0)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One model on one task. ``metrics`` are means over the items, named ``metric,filter``; ``config`` is for the
    manifest: hash of the YAML, lm-eval's version, shots, generation settings, rows."""

    task: str
    metric: str
    filter: str
    num_fewshot: int
    comparable: bool
    note: str
    records: list[Sample]
    metrics: dict[str, float]
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """The headline metric."""
        return self.metrics[f"{self.metric},{self.filter}"]

    def summary(self) -> Row:
        """Everything but the records, as JSON values."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "records"}


class ShardStore(Protocol):
    """Keeps finished shards of an evaluation, so that a killed one repeats only the shard it was in."""

    def get(self, key: str) -> list[Row] | None:
        """The rows put under ``key``; None where there are none."""

    def put(self, key: str, rows: list[Row]) -> None:
        """Keeps the rows of a finished shard, all or nothing."""


class MemoryShards:
    """A :class:`ShardStore` that forgets at exit."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}

    def get(self, key: str) -> list[Row] | None:
        """The rows put under ``key``; None where there are none."""
        return self.rows.get(key)

    def put(self, key: str, rows: list[Row]) -> None:
        """Keeps the rows."""
        self.rows[key] = rows
