"""Reads ``eval/<task>/samples.jsonl``: one record per evaluated item."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dasd_bench.errors import StoreError
from dasd_bench.files.jsonl import Row, numbered_rows
from dasd_bench.files.text import shown
from dasd_bench.reporting.entries import Entry

SAMPLES_FILE = "samples.jsonl"
AGAIN = "run the command again to rebuild it"


@dataclass(frozen=True, slots=True)
class Sample:
    """One item as it was answered: what the model saw, what it wrote, what was made of it (1.0 = right)."""

    id: str
    prompt: str
    completion: str
    extracted: str | None
    score: float
    reason: str
    answer: str | None = None
    tokens: int | None = None
    seconds: float | None = None
    finish: str | None = None
    level: str | None = None
    subject: str | None = None


USER_TURNS = (
    "<|im_start|>user",
    "<|start_header_id|>user<|end_header_id|>",
    "<start_of_turn>user",
    "<|user|>",
    "[INST]",
    "<\uff5cUser\uff5c>",
)
"""How chat templates open a user's turn."""

LONG_PROMPT = 1_500
"""Characters of a prompt that is shown whole, shots and all."""


def question_start(prompt: str) -> int:
    """Where the question of a few-shot prompt begins: the last user turn, or the last paragraphs of a plain prompt.

    0 for a prompt of at most :data:`LONG_PROMPT` characters. A question is never cut: a plain prompt gives whole
    paragraphs, at least one and as many as fit.
    """
    if len(prompt) <= LONG_PROMPT:
        return 0
    turn = max(prompt.rfind(mark) for mark in USER_TURNS)
    if turn > 0:
        return turn
    start = prompt.rstrip().rfind("\n\n")
    while start > 0 and len(prompt) - (before := prompt.rfind("\n\n", 0, start)) <= LONG_PROMPT and before >= 0:
        start = before
    return start + 2 if start > 0 else 0


def samples_path(run: Path, entry: Entry, task: str, seed: int | None) -> Path:
    """Where an entry's records of a task lie; ``seed`` is None for the base."""
    if entry.arm is None:
        return run / "base" / "eval" / task / SAMPLES_FILE
    return run / "arms" / entry.arm.directory / f"seed{seed}" / "eval" / task / SAMPLES_FILE


def read_samples(path: Path) -> list[Sample]:
    """All records in order. A last line without its newline is a write that was cut off, and is left out.

    Raises :class:`StoreError` naming file and line for anything else that is not a record.
    """
    try:
        rows = numbered_rows(path, error=StoreError, hint=AGAIN, torn_end=True)
        return [_record(row, f"{path}, line {number}") for number, row in rows]
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: the run has no completions for this task.") from None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]  # another type is the caller's TypeError


def _record(row: Row, where: str) -> Sample:
    try:
        tokens = _number(row.get("tokens"))
        return Sample(
            id=str(row["id"]),
            prompt=str(row.get("prompt", "")),
            completion=str(row.get("completion", "")),
            extracted=_text(row.get("extracted")),
            score=float(row["score"]),
            reason=str(row.get("reason", "")),
            answer=_text(row.get("answer")),
            tokens=None if tokens is None else int(tokens),
            seconds=_number(row.get("seconds")),
            finish=_text(row.get("finish")),
            level=_text(row.get("level")),
            subject=_text(row.get("subject")),
        )
    except (ValueError, KeyError, TypeError, OverflowError) as err:
        raise StoreError(f"{where}: not a sample record ({shown(str(err))}); {AGAIN}.") from None
