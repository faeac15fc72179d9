"""An arm's training targets as files of its folder: ``targets.jsonl``, ``tokens.safetensors`` and ``pieces.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any

import numpy.typing as npt

from dasd_bench.errors import StoreError
from dasd_bench.files.json_file import read_object
from dasd_bench.files.jsonl import dump_rows, numbered_rows
from dasd_bench.results.directory import ModelDirectory
from dasd_bench.results.json_codec import DecodeError, decode
from dasd_bench.store.atomic import write_bytes, write_json
from dasd_bench.store.store import load_ragged, save_ragged
from dasd_bench.types import Message, TokenScores, WeightedTarget, target_names

HINT = "run the command again"

SCORES = tuple(f.name for f in fields(TokenScores))
ARRAYS = ("token_ids", "origin", "marks", "proposals", *SCORES, "weights")
"""The arrays of ``tokens.safetensors``, one value per token (``proposals``: none where the method has none)."""


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One line of ``targets.jsonl``: what a person wants to know of a target. ``tokens`` is its length.

    ``id`` is unique: the example's, with ``#1``, ``#2``, ... for its second, third, ... target. ``messages`` is the
    chat that the target answers, where that is not its example's question.
    """

    id: str
    task: str
    prompt: str
    reference: str
    accepted: bool
    reason: str
    target: str = ""
    tokens: int = 0
    notes: dict[str, float] = field(default_factory=dict)
    messages: list[Message] | None = None


@dataclass(frozen=True, slots=True)
class StoredTargets:
    """The three files: ``arrays`` has for each name of :data:`ARRAYS` an array per row, ``pieces`` texts by token id.

    ``pieces`` is empty for runs made before runs kept their tokens' text.
    """

    rows: list[TargetRow]
    arrays: dict[str, list[npt.NDArray[Any]]]
    pieces: dict[int, str]


def write_targets(
    folder: ModelDirectory,
    targets: Sequence[WeightedTarget],
    more: Mapping[str, Sequence[npt.NDArray[Any]]] = MappingProxyType({}),
) -> None:
    """Writes ``targets.jsonl`` (for people) and ``tokens.safetensors`` (for tools), each atomically.

    ``more`` holds further arrays by name, one per target.
    """
    rows = [
        TargetRow(
            id=name,
            task=item.example.task,
            prompt=item.example.prompt if item.target.prompt is None else shown_chat(item.target.prompt),
            reference=item.example.reference,
            accepted=item.target.accepted,
            reason=item.target.reason,
            target=item.target.text,
            tokens=len(item.target.token_ids),
            notes=item.target.notes,
            messages=None if item.target.prompt is None else list(item.target.prompt),
        )
        for name, item in zip(target_names([one.target for one in targets]), targets, strict=True)
    ]
    arrays: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in ARRAYS}
    for item in targets:
        target = item.target
        proposals = target.token_ids[:0] if target.proposals is None else target.proposals
        scores = (getattr(item.scores, name) for name in SCORES)
        values = (target.token_ids, target.origin, target.marks, proposals, *scores, item.weights)
        for name, value in zip(ARRAYS, values, strict=True):
            arrays[name].append(value)
    lines = map(asdict, rows)
    write_bytes(folder.targets, dump_rows([{k: v for k, v in line.items() if v is not None} for line in lines]))
    save_ragged(folder.tokens, {**arrays, **more}, [{"id": row.id} for row in rows])


def shown_chat(chat: Sequence[Message]) -> str:
    """A chat for people: the bare text of a single user turn, else every turn after its role."""
    if len(chat) == 1 and chat[0].role == "user":
        return chat[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in chat)


def write_pieces(folder: ModelDirectory, targets: Sequence[WeightedTarget], tokenizer: Any) -> None:
    """Writes ``pieces.json``: the text of every token id of the targets, so that a report needs no tokenizer."""
    ids: set[int] = set()
    for item in targets:
        ids.update(item.target.token_ids.tolist())
        if item.target.proposals is not None:
            ids.update(item.target.proposals.tolist())
    write_json(folder.pieces, {str(i): piece_text(tokenizer, i) for i in sorted(ids)})


def piece_text(tokenizer: Any, token_id: int) -> str:
    """One token as text; SentencePiece's decoder would drop the space before a word, so it is put back."""
    piece = tokenizer.convert_ids_to_tokens(token_id)
    if isinstance(piece, str) and piece.startswith("\u2581"):
        return piece.replace("\u2581", " ")
    return str(tokenizer.decode([token_id], clean_up_tokenization_spaces=False))


def read_targets(folder: ModelDirectory) -> StoredTargets:
    """What :func:`write_targets` and :func:`write_pieces` wrote.

    Raises :class:`StoreError` naming the file (and line) that is missing, damaged, or does not belong to the others.
    """
    try:
        rows = [
            _row(row, f"{folder.targets}, line {number}")
            for number, row in numbered_rows(folder.targets, error=StoreError, hint=HINT)
        ]
    except FileNotFoundError:
        raise StoreError(f"{folder.targets} is missing: the run has no targets there.") from None
    arrays, _ = load_ragged(folder.tokens)
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise StoreError(f"{folder.tokens} has no '{missing[0]}'; {HINT}.")
    if {len(parts) for parts in arrays.values()} != {len(rows)}:
        raise StoreError(f"{folder.path}: targets.jsonl and tokens.safetensors differ in length; {HINT}.")
    try:
        pieces = read_object(folder.pieces, hint=HINT)
    except FileNotFoundError:
        pieces = {}
    try:
        return StoredTargets(rows, arrays, {int(name): str(text) for name, text in pieces.items()})
    except ValueError:
        raise StoreError(f"{folder.pieces} has a key that is no token id; {HINT}.") from None


def _row(row: dict[str, Any], where: str) -> TargetRow:
    try:
        return decode(TargetRow, row)
    except DecodeError as error:
        raise StoreError(f"{where}: not a target ({error}); {HINT}.") from None
