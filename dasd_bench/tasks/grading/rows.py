"""Rows of anyone's answers, graded as the tasks grade theirs: what ``dasd-bench grade`` reads and does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dasd_bench.errors import DataError
from dasd_bench.files.jsonl import numbered_rows
from dasd_bench.tasks.grading.choices import grade_choice
from dasd_bench.tasks.grading.mathematics import grade_math
from dasd_bench.tasks.grading.numbers import grade_number, number_in
from dasd_bench.tasks.grading.verifier import Verifier, shared_verifier
from dasd_bench.types import Verdict

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One answer. ``columns`` is the row as it was read; ``gold`` the right answer, for choices its label;
    ``gold_index`` its position there."""

    line: int
    columns: dict[str, Any]
    text: str
    gold: str
    choices: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    gold_index: int = 0


def read_rows(path: Path, kind: str) -> list[AnswerRow]:
    """The rows of a file of answers of a kind: number, math or choice. Raises :class:`DataError` with file and line."""
    try:
        rows = [_row(columns, number, kind, f"{path}, line {number}") for number, columns in numbered_rows(path)]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    if not rows:
        raise DataError(f"{path} has no rows.")
    return rows


def grade_rows(rows: Sequence[AnswerRow], kind: str, verifier: Verifier | None = None) -> list[Verdict]:
    """The verdict on each row, in order."""
    if kind == "number":
        return [grade_number(row.text, row.gold) for row in rows]
    if kind == "choice":
        return [grade_choice(row.text, row.choices, row.labels, row.gold_index) for row in rows]
    verifier = verifier or shared_verifier()
    return verifier.map(lambda row: grade_math(row.text, row.gold, verifier), rows)


def _row(columns: dict[str, Any], number: int, kind: str, where: str) -> AnswerRow:
    for name in ("text", "gold", *(("choices",) if kind == "choice" else ())):
        if name not in columns:
            raise DataError(f"{where}: the column '{name}' is missing.")
    text, gold = columns["text"], columns["gold"]
    if not isinstance(text, str):
        raise DataError(f"{where}: the column 'text' must be text.")
    if isinstance(gold, bool) or not isinstance(gold, (str, int, float)):
        raise DataError(f"{where}: the column 'gold' must be text or a number.")
    if kind == "choice":
        return _choice_row(columns, number, where)
    if kind == "number" and number_in(str(gold)) is None:
        raise DataError(f"{where}: the column 'gold' is not a number; use --as math for formulas.")
    return AnswerRow(number, columns, text, str(gold))


def _choice_row(columns: dict[str, Any], number: int, where: str) -> AnswerRow:
    choices, gold = columns["choices"], columns["gold"]
    if not isinstance(choices, list) or not all(isinstance(one, str) and one.strip() for one in choices) or not choices:
        raise DataError(f"{where}: the column 'choices' must be a list of non-empty texts.")
    labels = columns.get("labels", LETTERS[: len(choices)])
    if not isinstance(labels, (str, list)) or not all(isinstance(one, str) and one for one in labels):
        raise DataError(f"{where}: the column 'labels' must be a list of labels, or text such as \"ABCD\".")
    if len(labels) != len(choices) or len(set(labels)) != len(labels):
        raise DataError(f"{where}: {len(choices)} choices need as many different labels, not {len(labels)}.")
    if isinstance(gold, str) and gold in labels:
        index = list(labels).index(gold)
    elif isinstance(gold, int) and 0 <= gold < len(choices):
        index = gold
    else:
        raise DataError(
            f"{where}: the column 'gold' must be one of the labels ({', '.join(labels)}) or a position from 0 to "
            f"{len(choices) - 1}."
        )
    return AnswerRow(number, columns, columns["text"], labels[index], tuple(choices), tuple(labels), index)
