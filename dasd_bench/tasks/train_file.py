"""A file of one's own training rows (``--train-file``), as a task that is trained on and never evaluated.

A row has one of the forms that trainers read: ``prompt`` and ``completion`` (texts, or lists of chat turns), or
``messages``, a chat that ends in the assistant's turn. Only that last turn is trained on; the turns before it are the
prompt. A row may have the final ``answer``, by which methods that rewrite completions check their rewrites.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast, get_args

from dasd_bench.errors import DataError
from dasd_bench.files.jsonl import numbered_rows
from dasd_bench.files.text import kind_of, shown
from dasd_bench.tasks.base import DataSource, Row, Task, verdict_of
from dasd_bench.tasks.grading import grade_math, grade_number, shared_verifier
from dasd_bench.tasks.grading.numbers import number_in
from dasd_bench.types import Example, Message, Reason, Role, Verdict

FORMS = "'prompt' and 'completion', or 'messages'"


class TrainFile(Task):
    """The rows of one file. Its name is the file's, without its ending."""

    version: ClassVar[int] = 1
    rewrite_instruction: ClassVar[str] = (
        "Write this answer again in your own words. If it ends in a final answer, end with the same one."
    )

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name  # type: ignore[misc]  # one instance per file, each with a name of its own
        self.summary = f"training rows of {path.name}"  # type: ignore[misc]
        self.rows_from = path.name  # type: ignore[misc]
        self.data = DataSource(f"--train-file {name}", (), splits=("train",))  # type: ignore[misc]
        self.folder = path.parent

    def builtin_rows(self, split: str) -> list[Row]:
        """The file's rows as chats. Raises :class:`DataError` naming file and line of a row that is none."""
        try:
            rows = [read_row(row, f"{self.path}, line {number}") for number, row in numbered_rows(self.path)]
        except FileNotFoundError:
            raise DataError(f"--train-file {shown(str(self.path))}: there is no such file.") from None
        if not rows:
            raise DataError(f"{self.path} has no rows; write one JSON object per line with {FORMS}.")
        return [row.to_json() for row in rows]

    def example(self, row: Row, split: str, index: int) -> Example:
        """The row with its chat; its prompt in one text is the last turn of the user."""
        chat = tuple(Message(turn["role"], turn["content"]) for turn in row["chat"])
        alone = len(chat) == 1 and chat[0].role == "user"
        return Example(
            id=f"{self.name}/{split}/{index}",
            task=self.name,
            prompt=next(turn.content for turn in reversed(chat) if turn.role == "user"),
            reference=row["completion"],
            answer=row["answer"],
            chat=() if alone else chat,
        )

    def grade(self, example: Example, text: str) -> Verdict:
        """Compares the final answer as a number or as mathematics, and looks for one in words anywhere in the text.

        Without an answer in the row every text that is not blank passes.
        """
        if example.answer is None:
            return Verdict(True, Reason.CORRECT) if text.strip() else Verdict(False, Reason.NO_ANSWER)
        if number_in(example.answer) is not None:
            return grade_number(text, example.answer)
        if re.fullmatch(r"[^\W\d_][^\W\d_]+(?:[\s'-]+[^\W\d_]+)*", example.answer.strip()):
            words = r"\b" + r"\s+".join(map(re.escape, example.answer.split())) + r"\b"
            found = re.search(words, text, re.IGNORECASE) is not None
            return verdict_of(example.answer if found else None, found)
        return grade_math(text, example.answer, shared_verifier())


@dataclass(frozen=True, slots=True)
class TrainRow:
    """One row: the turns before the answer, the answer that is trained on, and its final answer where it has one."""

    chat: tuple[Message, ...]
    completion: str
    answer: str | None

    def to_json(self) -> Row:
        """The row as :meth:`TrainFile.example` takes it; equal rows of different forms are equal."""
        turns = [{"role": turn.role, "content": turn.content} for turn in self.chat]
        return {"chat": turns, "completion": self.completion, "answer": self.answer}


def read_row(row: Row, where: str) -> TrainRow:
    """A row in any of the forms. Raises :class:`DataError` that begins with ``where``."""
    if "messages" in row:
        if "prompt" in row or "completion" in row:
            raise DataError(f"{where}: it has both 'messages' and 'prompt' or 'completion'; keep one form.")
        chat, last = _turns(row["messages"], "messages", where), None
    elif "prompt" in row and "completion" in row:
        prompt, completion = row["prompt"], row["completion"]
        chat = [Message("user", prompt)] if isinstance(prompt, str) else _turns(prompt, "prompt", where)
        last = completion if isinstance(completion, str) else None
        if last is None:
            chat += _turns(completion, "completion", where)
    else:
        raise DataError(f"{where}: a row needs {FORMS}; found {', '.join(row) or 'nothing'}.")
    if last is None:
        if chat[-1].role != "assistant":
            raise DataError(
                f"{where}: the last turn is trained on, so it must be the assistant's, not {chat[-1].role}."
            )
        last = chat.pop().content
    if not last.strip():
        raise DataError(f"{where}: the answer to train on is blank.")
    if not any(turn.role == "user" and turn.content.strip() for turn in chat):
        raise DataError(f"{where}: there is no user turn, or it is blank.")
    if chat[-1].role == "assistant":
        raise DataError(f"{where}: two turns of the assistant follow one another; join them.")
    answer = row.get("answer")
    if answer is not None and not isinstance(answer, (str, int, float)):
        raise DataError(f"{where}: 'answer' must be text or a number, found {kind_of(answer)}.")
    return TrainRow(tuple(chat), last, None if answer is None else str(answer))


def _turns(value: Any, column: str, where: str) -> list[Message]:
    if not isinstance(value, list) or not value:
        text = "" if column == "messages" else "text or "
        found = "an empty list" if value == [] else kind_of(value)
        raise DataError(f"{where}: '{column}' must be {text}a list of chat turns, found {found}.")
    for number, turn in enumerate(value, 1):
        role = turn.get("role") if isinstance(turn, dict) else None
        content = turn.get("content") if isinstance(turn, dict) else None
        if role not in get_args(Role):
            raise DataError(
                f"{where}: the role of turn {number} of '{column}' must be system, user or assistant, found "
                f"{shown(str(role))}."
            )
        if not isinstance(content, str):
            raise DataError(
                f"{where}: the content of turn {number} of '{column}' must be text, not {kind_of(content)}."
            )
    return [Message(cast("Role", turn["role"]), turn["content"]) for turn in value]


def file_task_name(path: Path, taken: Sequence[str]) -> str:
    """What a file's task is called: the file's name without its ending, made different from the names ``taken``."""
    stem = re.sub(r"\.jsonl?(\.gz)?$", "", path.name)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip(".-") or "rows"
    return f"{name}-file" if name in taken else name
