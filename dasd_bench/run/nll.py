"""The nll stage: teacher-forced nll of the test references and of the base's right answers, finer than accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dasd_bench.results.schema import OwnNll, ReferenceNll
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import TaskData
from dasd_bench.run.keys import evaluate_key, nll_key
from dasd_bench.run.method_context import StoreLab
from dasd_bench.store.store import Entry, Row, read_lines
from dasd_bench.types import Bools, Reason, TokenScores

if TYPE_CHECKING:
    from dasd_bench.engine import ScoreRequest


def reference_nll(
    context: RunContext, data: TaskData, adapter: Path | None, adapter_key: str | None
) -> tuple[ReferenceNll, bool]:
    """Teacher-forced nll of the test references and of the base's own right answers, in nats per token.

    References follow the plain prompt, as in training. The base's own answers follow the prompt they were written for;
    for multiple choice they are the references of the items that the base got right.
    """

    def make(entry: Entry) -> Row:
        from dasd_bench.engine import ScoreRequest

        lab = StoreLab(context, 0)
        requests = [ScoreRequest(lab.prompt_ids(e), lab.reference_ids(e), name=e.id) for e in data.test]
        right = [index for index, row in enumerate(base_rows(context, data)) if row["reason"] == Reason.CORRECT.value]
        written = own_requests(context, data, right)
        with context.console.progress(f"reference nll {data.name}", len(requests) + len(written)) as meter:
            scores = context.engine(adapter).score(
                [*requests, *written.values()], on_result=lambda _, done: meter.advance(1, len(done.logp))
            )
        nll = summarise_nll(scores[: len(requests)], [_numeric(context, list(r.target_ids)) for r in requests])
        if written:
            nll.own = own_nll(list(written), scores[len(requests) :])
        elif right and data.task.max_new_tokens is None:
            nll.own = own_nll(right, [scores[index] for index in right])
        return asdict(nll)

    key = nll_key(context, data, adapter_key)
    entry, reused = context.store.get_or_make("nll", key, make, context.console.say)
    found = entry.meta()
    own = found.pop("own")
    return ReferenceNll(**found, own=None if own is None else OwnNll(**own)), reused


def base_rows(context: RunContext, data: TaskData) -> list[Row]:
    """The base's records of a task, from its evaluation in the store."""
    path = context.store.entry("evaluate", evaluate_key(context, data, None)).path / "samples.jsonl"
    return read_lines(path)


def own_requests(context: RunContext, data: TaskData, right: Sequence[int]) -> dict[int, ScoreRequest]:
    """The base's right answers by item, each after the very prompt it was written for; none for multiple choice."""
    from dasd_bench.engine import ScoreRequest

    if data.task.max_new_tokens is None:
        return {}
    tokenizer = context.tokenizer
    bos = tokenizer.bos_token
    rows = base_rows(context, data)
    found = {}
    for index in right:
        prompt, completion = str(rows[index]["prompt"]), str(rows[index]["completion"])
        # A chat template's text holds its own beginning-of-sequence token, as in evaluation.
        special = not (bos and prompt.startswith(bos))
        answer = tokenizer(completion, add_special_tokens=False)["input_ids"]
        if answer:
            prompt_ids = tokenizer(prompt, add_special_tokens=special)["input_ids"]
            found[index] = ScoreRequest(prompt_ids, answer, name=str(rows[index]["id"]))
    return found


def own_nll(items: Sequence[int], scores: Sequence[TokenScores]) -> OwnNll:
    """Mean nll over all tokens of the answers, and per answer."""
    sums = [float(-one.logp.astype(np.float64).sum()) for one in scores]
    tokens = [len(one.logp) for one in scores]
    means = [total / count for total, count in zip(sums, tokens, strict=True)]
    return OwnNll(math.fsum(sums) / sum(tokens), list(items), means, tokens)


def summarise_nll(scores: Sequence[TokenScores], numeric: Sequence[Bools]) -> ReferenceNll:
    """Mean nll in nats over all tokens, over tokens with a digit (None where there is none), and both per item."""
    nll = [-one.logp.astype(np.float64) for one in scores]
    digits = [values[mask] for values, mask in zip(nll, numeric, strict=True)]
    tokens, numbers = [len(values) for values in nll], [len(values) for values in digits]
    return ReferenceNll(
        all_tokens_mean=_mean(nll),
        numeric_tokens_mean=_mean(digits) if sum(numbers) else None,
        per_item=[float(values.mean()) for values in nll],
        numeric_per_item=[float(values.mean()) if len(values) else 0.0 for values in digits],
        tokens_per_item=tokens,
        numeric_tokens_per_item=numbers,
    )


def _mean(parts: Sequence[np.ndarray[Any, np.dtype[np.float64]]]) -> float:
    count = sum(len(part) for part in parts)
    return sum(float(part.sum()) for part in parts) / count if count else math.nan


def _numeric(context: RunContext, ids: list[int]) -> Bools:
    pieces = context.tokenizer.convert_ids_to_tokens(ids)
    return np.array([any(c.isdigit() for c in piece) for piece in pieces], dtype=np.bool_)
