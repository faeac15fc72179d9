"""Rows of a task: from ``--data-dir``, else the hub, else built in; checked, with the hash of what was read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from dasd_bench.errors import DasdError, DataError, TaskError, did_you_mean
from dasd_bench.files.jsonl import ENDINGS, numbered_rows, split_file
from dasd_bench.files.text import kind_of, shown
from dasd_bench.methods.plugin_calls import file_of, place
from dasd_bench.tasks import plugin_calls
from dasd_bench.tasks.base import Row, Task
from dasd_bench.types import Example

SYNONYMS = {
    "code": ("canonical_solution", "solution"),
    "canonical_solution": ("solution", "code"),
    "text": ("prompt", "question"),
    "prompt": ("text", "question"),
    "solution": ("answer",),
}
"""What other releases of a set (EvalPlus's, sanitized MBPP) call a column."""


@dataclass(frozen=True, slots=True)
class LoadedRows:
    """Rows in order, where they came from in words, and the sha256 of their canonical JSON."""

    rows: list[Row]
    source: str
    sha256: str


def load_rows(
    task: Task, split: str, *, data_dir: Path | None = None, offline: bool = False, limit: int | None = None
) -> LoadedRows:
    """The first ``limit`` rows (None = all) of a split; ``test`` is the validation split of a task without one.

    A folder ``<data_dir>/<folder>`` is used where it exists: its file ``<split>.jsonl``, ``.jsonl.gz``, ``.json`` or
    ``.json.gz``. Otherwise a built-in task makes its rows, and any other
    asks the hub: never when ``offline`` or where a data folder was given. A hub name may list several configurations,
    separated by commas, whose rows follow one another.

    Raises :class:`DataError` saying what to do: no such split, no source, a file without rows, a malformed row (file
    and line), a missing column.
    """
    split = real_split(task, split)
    if data_dir is not None and not data_dir.is_dir():
        raise DataError(f"The data folder {data_dir} does not exist; give --data-dir an existing folder.")
    folder = data_dir / task.data.folder if data_dir is not None else None
    if folder is not None and folder.is_dir():
        rows = read_split(folder, split, task.data.columns, limit)
        return LoadedRows(rows, f"{folder.name}/{split_file(folder, split).name}", rows_sha256(rows))
    rows = plugin_calls.contained(task, "builtin_rows()", task.builtin_rows, split)
    if rows:
        source = task.rows_from
    else:
        rows, source = _hub_rows(task, split, folder, offline), f"{task.data.hub_path} (hub)"
        check_columns(rows, task.data.columns, f"{task.data.hub_path}, split {split}")
    rows = rows[:limit]
    return LoadedRows(rows, source, rows_sha256(rows))


def real_split(task: Task, split: str) -> str:
    """The split of that name, or ``validation`` for the ``test`` of a task without a test split."""
    splits = task.data.splits
    if split == "test" and "test" not in splits and "validation" in splits:
        return "validation"
    if split not in splits:
        raise DataError(f"Task '{task.name}' has no split '{split}'; it has {', '.join(splits)}.")
    if split == "test" and task.data.evaluated is not None:
        return task.data.evaluated
    return split


def read_split(folder: Path, split: str, columns: tuple[str, ...] = (), limit: int | None = None) -> list[Row]:
    """The first ``limit`` rows of a split in a data folder; raises :class:`DataError` naming file and line."""
    path = split_file(folder, split)
    rows: list[Row] = []
    try:
        for number, row in numbered_rows(path, hint="correct or remove the line"):
            if limit is not None and len(rows) >= limit:
                break
            _check_row(row, columns, f"{path}, line {number}")
            rows.append(row)
    except FileNotFoundError:
        found = sorted(p.name for p in folder.iterdir() if p.name.endswith(ENDINGS)) if folder.is_dir() else []
        has = f"the folder has {', '.join(found)}" if found else "the folder has no .jsonl file"
        raise DataError(f"{path} is missing ({has}); put the split there, one JSON object per line.") from None
    if not rows:
        raise DataError(f"{path} has no rows; put at least one JSON row in it.")
    return rows


def check_columns(rows: list[Row], columns: tuple[str, ...], where: str) -> None:
    """Raises :class:`DataError` for no rows or a row that lacks a column."""
    if not rows:
        raise DataError(f"{where}: the split is empty.")
    for number, row in enumerate(rows, 1):
        _check_row(row, columns, f"{where}, row {number}")


def _check_row(row: Row, columns: tuple[str, ...], where: str) -> None:
    for column in columns:
        if column not in row:
            alike = [name for name in SYNONYMS.get(column, ()) if name in row]
            hint = f" Rename '{alike[0]}', if that is the column." if alike else did_you_mean(column, row)
            raise DataError(f"{where}: the column '{column}' is missing; found {', '.join(row)}.{hint}")
        if row[column] is None:
            raise DataError(f"{where}: the column '{column}' is null; give it a value.")


def _hub_rows(task: Task, split: str, folder: Path | None, offline: bool) -> list[Row]:
    source = task.data
    asked = f"{folder}/{split}.jsonl" if folder is not None else f"DIR/{source.folder}/{split}.jsonl"
    if source.hub_path is None:
        raise DataError(f"Task '{task.name}' has no rows for split '{split}'; put them at {asked} (--data-dir DIR).")
    if offline or folder is not None:
        why = "--offline disables the hub" if offline else "the hub is not used when a data folder is given"
        raise DataError(
            f"No rows for task '{task.name}', split '{split}': {asked} is missing and {why}; "
            "put the file there, or omit the option."
        )
    import datasets

    try:
        names = source.hub_name.split(",") if source.hub_name else [None]
        parts = [datasets.load_dataset(source.hub_path, name, split=split) for name in names]
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"Could not load {source.hub_path}, split '{split}', from the hub ({type(error).__name__}: {reason}); "
            f"check the network, or put the rows at {asked} and give --data-dir DIR."
        ) from error
    return [dict(row) for part in parts for row in part]


def examples_of(task: Task, loaded: LoadedRows, split: str) -> list[Example]:
    """The rows as examples; a row a task cannot read raises :class:`DataError` naming it."""
    examples = []
    for index, row in enumerate(loaded.rows):
        where = f"{loaded.source}, row {index + 1}"
        for column in task.text_columns:
            if not isinstance(row.get(column), str):
                raise DataError(f"{where}: the column '{column}' must be text, found {kind_of(row.get(column))}.")
        try:
            example = plugin_calls.example(task, row, split, index)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        except TaskError as error:
            from jinja2 import TemplateError

            cause = error.__cause__
            # In a task of this project a row is what is odd; a user's own task may have the fault itself. What a YAML's
            # template lacks is said already, with file and key.
            if not isinstance(cause, Exception) or isinstance(cause, (DasdError, OSError, MemoryError, TemplateError)):
                raise
            reason = f"it has no {cause}" if isinstance(cause, KeyError) else shown(str(cause), 200)
            raise DataError(
                f"{where}: task '{task.name}' cannot use it ({reason or type(cause).__name__}); check its columns and "
                f"values, or the task itself ({place(cause, file_of(task))})."
            ) from cause
        if not example.prompt.strip():
            raise DataError(f"{where}: its prompt is blank.")
        examples.append(example)
    return examples


def rows_sha256(rows: list[Row]) -> str:
    """sha256 over the rows as JSON with sorted keys, one a line."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n")
    return digest.hexdigest()
