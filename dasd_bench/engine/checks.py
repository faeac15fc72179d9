"""What is asked of an engine must make sense: names for errors, no empty prompt or target, room in the context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dasd_bench.engine.errors import EngineError
from dasd_bench.engine.requests import DualRequest, GenerateRequest, ScoreRequest


def named(requests: Sequence[Any]) -> list[Any]:
    """Requests without a name are called by their number."""
    return [r if r.name else replace(r, name=f"request {number}") for number, r in enumerate(requests)]


def check_generate(
    requests: Sequence[GenerateRequest], context_length: int | None, vocab_size: int | None = None
) -> list[GenerateRequest]:
    """The requests with names; raises :class:`EngineError` for one that cannot be decoded."""
    requests = named(requests)
    for request in requests:
        _check(request.name, request.prompt_ids, request.max_new_tokens, 1, context_length, vocab_size)
    return requests


def check_dual(
    requests: Sequence[DualRequest], context_length: int | None, vocab_size: int | None = None
) -> list[DualRequest]:
    """The requests with names; raises :class:`EngineError` for one that cannot be decoded."""
    requests = named(requests)
    for request in requests:
        for ids in (request.base_ids, request.reference_ids):
            _check(request.name, ids, request.max_new_tokens, 1, context_length, vocab_size)
    return requests


def check_targets(
    requests: Sequence[ScoreRequest], context_length: int | None, vocab_size: int | None = None
) -> list[ScoreRequest]:
    """The requests with names; raises :class:`EngineError` for one that cannot be scored."""
    requests = named(requests)
    for request in requests:
        size = len(request.target_ids)
        if size == 0:
            raise EngineError(f"The target of {request.name} is empty; score at least one token.")
        _check(request.name, request.prompt_ids, size, size - 1, context_length, vocab_size)
        _check_known(f"target of {request.name}", request.target_ids, vocab_size)
    return requests


def _check_known(what: str, ids: Sequence[int], vocab_size: int | None) -> None:
    """Some tokenizers have a token or two more than the model has embeddings."""
    if vocab_size is not None and len(ids) and not 0 <= min(ids) <= max(ids) < vocab_size:
        token = next(token for token in ids if not 0 <= token < vocab_size)
        raise EngineError(
            f"The {what} has token {token}, for which the model has no embedding (it has {vocab_size}); remove the "
            "text of that token, or use the model's own tokenizer."
        )


def _check(
    name: str, ids: Sequence[int], new_tokens: int, room: int, context_length: int | None, vocab_size: int | None
) -> None:
    if len(ids) == 0:
        raise EngineError(f"The prompt of {name} is empty; use at least one token (the BOS token, for instance).")
    _check_known(f"prompt of {name}", ids, vocab_size)
    if new_tokens < 1:
        raise EngineError(f"{name} asks for {new_tokens} new tokens; ask for at least 1.")
    if context_length is not None and len(ids) + room > context_length:
        what = f"The prompt of {name} has {len(ids)} tokens"
        if room > 1:
            what += f" and its target {room + 1}"
        raise EngineError(
            f"{what}, but the model's context is {context_length}; "
            "shorten it (fewer shots) or use a model with a longer context."
        )
