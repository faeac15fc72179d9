"""Targets as rows of a JSON-lines file: what ``dasd-bench export --to jsonl`` writes and ``external`` reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from dasd_bench.errors import DataError
from dasd_bench.files.jsonl import numbered_rows
from dasd_bench.files.text import shown
from dasd_bench.methods.context import MethodContext
from dasd_bench.types import Floats, Message, Role, Target


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One row. ``messages`` is the prompt as a chat, None where only ``id`` names it; ``prompt`` its only user turn."""

    where: str
    id: str
    messages: tuple[Message, ...] | None
    target: str
    token_ids: tuple[int, ...] | None = None
    weights: tuple[float, ...] | None = None
    spans: tuple[tuple[int, int, float], ...] = ()

    @property
    def prompt(self) -> str:
        """The text of a prompt of one user turn, else empty."""
        one = self.messages is not None and len(self.messages) == 1
        return self.messages[0].content if one and self.messages else ""

    def error(self, fault: str) -> DataError:
        """The error for this row."""
        return DataError(f"{self.where}: {fault}.")

    def weight_of(self, target: Target, context: MethodContext) -> Floats:
        """The weights float32 [T] of the row as a target; the end token's is 1 unless ``weights`` has one for it."""
        count = len(target.token_ids)
        if self.weights is not None:
            given = [*self.weights, *([1.0] if len(self.weights) == count - 1 else [])]
            if len(given) != count:
                raise self.error(f"has {len(self.weights)} weights for {count} tokens (the end token among them)")
            return np.array(given, dtype=np.float32)
        weights = np.ones(count, dtype=np.float32)
        ends = context.character_ends(target)
        for start, end, weight in self.spans:
            for index, (first, last) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                if first < end and last > start:
                    weights[index] = weight
        return weights


def target_rows(file: str) -> list[TargetRow]:
    """The rows of a file; raises :class:`DataError` with file and line for what is none."""
    path = Path(file).expanduser()
    try:
        rows = [_row(f"{path}, line {number}", row) for number, row in numbered_rows(path)]
    except FileNotFoundError:
        raise DataError(f"The file {shown(path)} of targets does not exist.") from None
    if not rows:
        raise DataError(f"{path} holds no target.")
    return rows


def _row(where: str, row: dict[str, Any]) -> TargetRow:
    def fault(text: str) -> DataError:
        return DataError(f"{where}: {text}.")

    target, name, prompt, messages = (row.get(key) for key in ("target", "id", "prompt", "messages"))
    if not isinstance(target, str) or not target:
        raise fault("'target' must be a text that is not empty")
    if name is None and prompt is None and messages is None:
        raise fault("one of 'id', 'prompt' and 'messages' is needed")
    if not isinstance(name or "", str) or not isinstance(prompt or "", str):
        raise fault("'id' and 'prompt' must be texts")
    chat: tuple[Message, ...] | None = None if prompt is None else (Message("user", prompt),)
    if messages is not None:
        if not isinstance(messages, list) or not messages or not all(map(_is_turn, messages)):
            raise fault("'messages' must be a list of objects with role (system, user, assistant) and content")
        chat = tuple(Message(cast("Role", turn["role"]), turn["content"]) for turn in messages)
    ids, weights, spans = row.get("token_ids"), row.get("weights"), row.get("spans", [])
    if ids is not None and (not isinstance(ids, list) or not ids or not all(_is_count(value) for value in ids)):
        raise fault("'token_ids' must be a list of whole numbers of at least 0")
    if weights is not None and (not isinstance(weights, list) or not all(map(_is_weight, weights))):
        raise fault("'weights' must be a list of finite numbers of at least 0")
    if weights is not None and spans:
        raise fault("'weights' and 'spans' cannot both be given")
    if not isinstance(spans, list) or not all(_is_span(span, len(target)) for span in spans):
        raise fault(f"'spans' must be a list of [start, end, weight] with 0 <= start < end <= {len(target)}")
    return TargetRow(
        where,
        name or "",
        chat,
        target,
        None if ids is None else tuple(ids),
        None if weights is None else tuple(map(float, weights)),
        tuple((start, end, float(weight)) for start, end, weight in spans),
    )


def _is_turn(turn: object) -> bool:
    return isinstance(turn, dict) and turn.get("role") in get_args(Role) and isinstance(turn.get("content"), str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_weight(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _is_span(span: object, length: int) -> bool:
    if not isinstance(span, Sequence) or isinstance(span, str) or len(span) != 3:
        return False
    start, end, weight = span
    return _is_count(start) and _is_count(end) and 0 <= start < end <= length and _is_weight(weight)
