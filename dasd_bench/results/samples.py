"""``samples.jsonl``: one sample per evaluated item, with its one reader and its one writer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dasd_bench.errors import StoreError
from dasd_bench.files.jsonl import dump_rows, numbered_rows, parse_rows
from dasd_bench.results.json_codec import DecodeError, decode
from dasd_bench.store.atomic import write_bytes
from dasd_bench.types import Finish, Reason

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """One evaluated item: what the model saw, what it wrote and what was made of it.

    ``score`` is the headline metric's value (1 and 0 for pass/fail). ``metrics`` has every metric of lm-eval as
    ``metric,filter``. ``tokens`` counts generated tokens, or scored ones of all choices. ``choices`` and
    ``choice_logp`` (natural logarithms, summed) are set for multiple choice. ``completions`` holds all samples of an
    item that was sampled several times (``completion`` is the first; ``tokens`` and ``seconds`` are of all). ``answer``
    is the right final answer where the task has one. ``confidence`` in [0, 1] is the model's own, see
    :mod:`dasd_bench.evaluation.confidence`. ``seconds`` is the item's share of its shard's time and is left out of JSON
    unless asked for, since it is the one field in which equal runs differ. Files of earlier releases may lack any field
    but the first three.
    """

    id: str
    score: float
    reason: Reason
    prompt: str = ""
    completion: str = ""
    extracted: str | None = None
    index: int = 0
    tokens: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    finish: Finish | None = None
    level: str | None = None
    subject: str | None = None
    choices: list[str] | None = None
    choice_logp: list[float] | None = None
    completions: list[str] | None = None
    answer: str | None = None
    confidence: float | None = None
    seconds: float = 0.0

    @property
    def correct(self) -> bool:
        """True for a score above 0."""
        return self.score > 0

    def to_json(self, timings: bool = False) -> Row:
        """The sample as a JSON object; keys without a value are left out."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        row |= {"extracted": self.extracted, "correct": self.correct, "reason": self.reason.value}
        if timings:
            row["seconds"] = round(self.seconds, 4)
        else:
            del row["seconds"]
        return row


HINT = "run the command again to rebuild it"


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Writes one JSON line per sample, atomically."""
    write_bytes(path, samples_bytes(samples))


def samples_bytes(samples: Sequence[Sample]) -> bytes:
    """One JSON line per sample."""
    return dump_rows(sample.to_json(timings=True) for sample in samples)


def read_samples(path: Path) -> list[Sample]:
    """All samples in order. A last line without its newline is a write that was cut off, and is left out.

    Raises :class:`StoreError` naming file and line for anything else that is not a sample.
    """
    try:
        return _samples(numbered_rows(path, error=StoreError, hint=HINT, torn_end=True), path)
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: the run has no completions for this task.") from None


def parse_samples(data: bytes, path: Path) -> list[Sample]:
    """The samples in the bytes of a ``samples.jsonl``; ``path`` is for errors."""
    return _samples(parse_rows(data, path, error=StoreError, hint=HINT), path)


def _samples(rows: Iterable[tuple[int, Row]], path: Path) -> list[Sample]:
    samples = []
    for number, row in rows:
        try:
            samples.append(decode(Sample, row))
        except DecodeError as error:
            raise StoreError(f"{path}, line {number}: not a sample ({error}); {HINT}.") from None
    return samples
