"""``samples.jsonl``: one record per evaluated item, with its one reader and its one writer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dasd_bench.errors import StoreError
from dasd_bench.files.jsonl import dump_rows, numbered_rows, parse_rows
from dasd_bench.store.atomic import write_bytes
from dasd_bench.types import Finish, Reason

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """One evaluated item.

    ``score`` is the headline metric's value, ``correct`` whether it is above zero. ``metrics`` has every metric of
    lm-eval as ``metric,filter``. ``tokens`` counts generated tokens, or scored ones of all choices. ``choices`` and
    ``choice_logp`` (natural logarithms, summed) are set for multiple choice. ``completions`` holds all samples of an
    item that was sampled several times (``completion`` is the first; ``tokens`` and ``seconds`` are of all). ``answer``
    is the right final answer where the task has one. ``confidence`` in [0, 1] is the model's own, see
    :mod:`dasd_bench.evaluation.confidence`. ``seconds`` is the item's share of its shard's time and is left out of JSON
    unless asked for, since it is the one field in which equal runs differ.
    """

    id: str
    index: int
    prompt: str
    completion: str
    extracted: str | None
    correct: bool
    score: float
    reason: Reason
    tokens: int
    metrics: dict[str, float]
    finish: Finish | None = None
    level: str | None = None
    subject: str | None = None
    choices: list[str] | None = None
    choice_logp: list[float] | None = None
    completions: list[str] | None = None
    answer: str | None = None
    confidence: float | None = None
    seconds: float = 0.0

    def to_json(self, timings: bool = False) -> Row:
        """The record as a JSON object; keys without a value are left out."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        row["extracted"] = self.extracted
        row["reason"] = self.reason.value
        if timings:
            row["seconds"] = round(self.seconds, 4)
        else:
            del row["seconds"]
        return row

    @staticmethod
    def from_json(row: Row) -> ItemRecord:
        """The record that ``to_json`` wrote; keys it does not know are ignored."""
        known = {f.name for f in fields(ItemRecord)}
        values = {key: value for key, value in row.items() if key in known}
        return ItemRecord(**{**values, "score": float(row["score"]), "reason": Reason(row["reason"])})


HINT = "run the command again to rebuild it"


def write_records(path: Path, records: Sequence[ItemRecord]) -> None:
    """Writes one JSON line per record, atomically."""
    write_bytes(path, records_bytes(records))


def records_bytes(records: Sequence[ItemRecord]) -> bytes:
    """One JSON line per record."""
    return dump_rows(record.to_json(timings=True) for record in records)


def read_records(path: Path) -> list[ItemRecord]:
    """All records in order. A last line without its newline is a write that was cut off, and is left out.

    Raises :class:`StoreError` naming file and line for anything else that is not a record.
    """
    try:
        return _records(numbered_rows(path, error=StoreError, hint=HINT, torn_end=True), path)
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: the run keeps no completions for this task.") from None


def parse_records(data: bytes, path: Path) -> list[ItemRecord]:
    """The records in the bytes of a ``samples.jsonl``; ``path`` is for errors."""
    return _records(parse_rows(data, path, error=StoreError, hint=HINT), path)


def _records(rows: Iterable[tuple[int, Row]], path: Path) -> list[ItemRecord]:
    records = []
    for number, row in rows:
        try:
            records.append(ItemRecord.from_json(row))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{path}, line {number}: not a sample record ({error}); {HINT}.") from None
    return records
