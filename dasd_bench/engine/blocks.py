"""Dual-context decoding in blocks: the reference stream drafts, the base checks a whole draft in one pass.

For back ends that cannot push one token to two contexts at once (vLLM). The rule is asked at every drafted token with
the same two rows of log-probabilities that token-by-token decoding would give it; a draft is followed as long as the
rule agrees with it and dropped after the first token where it does not, so the result is the same by construction.

Where both contexts go through one forward pass, as in :mod:`dasd_bench.engine.decoding`, blocks cannot pay: drafting k
tokens reads the weights k times and checking reads them once more, for at most k tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from dasd_bench.engine.requests import DualRequest
from dasd_bench.engine.samplers import DualSampler, Item
from dasd_bench.engine.types import DualGeneration, StepRule
from dasd_bench.engine.vocabulary import Vocabulary


class Rows(Protocol):
    """Log-probabilities float32 [V] by position; a list of tensors or a tensor [k, V] will do."""

    def __getitem__(self, index: int, /) -> Tensor:
        """The row before drafted token ``index``."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A guess at the next ``tokens`` and, before each, the reference stream's log-probabilities ``rows[j]`` [V]."""

    tokens: list[int]
    rows: Rows


class Streams(Protocol):
    """The two contexts of a back end."""

    def draft(self, contexts: Sequence[list[int]], counts: Sequence[int], stop: frozenset[int]) -> list[Draft]:
        """Greedy drafts of at most ``counts[i]`` and at least one token, ended by a token of ``stop``."""

    def verify(self, contexts: Sequence[list[int]], drafts: Sequence[list[int]]) -> list[Rows]:
        """The base's log-probabilities [V] before each drafted token, given the context and the draft before it."""


def block_decode(
    requests: Sequence[DualRequest],
    rule: StepRule,
    streams: Streams,
    tokenizer: Any,
    *,
    block: int,
    context_length: int | None,
    on_result: Callable[[int, DualGeneration], None] | None = None,
) -> list[DualGeneration]:
    """What :meth:`dasd_bench.engine.engine.Engine.dual_decode` gives, by drafts of at most ``block`` tokens.

    Sampled proposals draw from the request's own stream at each position as there; a greedy draft is then only a
    guess that is followed less often.
    """
    sampler = DualSampler(rule, Vocabulary(None), tokenizer)
    results: dict[int, DualGeneration] = {}
    live = []
    for number, request in enumerate(requests):
        longest = max(len(request.base_ids), len(request.reference_ids))
        room = request.max_new_tokens if context_length is None else context_length - longest
        live.append(Item(number, request, sampler.uniforms, min(request.max_new_tokens, room)))
    while live:
        drafts = _drafts(streams, live, block)
        base = streams.verify([[*_request(item).base_ids, *item.tokens] for item in live], [d.tokens for d in drafts])
        following = list(range(len(live)))
        step = 0
        while following:
            rows = [row for i in following for row in (base[i][step], drafts[i].rows[step])]
            chosen = sampler.choose(torch.stack(rows), [live[i] for i in following])
            agreed = []
            for i, token in zip(following, chosen, strict=True):
                item = live[i]
                item.tokens.append(token)
                finish = item.finish(tokenizer)
                if finish is not None:
                    text = tokenizer.decode(item.tokens, skip_special_tokens=True)
                    results[item.index] = sampler.result(item, text, finish)
                    if on_result is not None:
                        on_result(item.index, results[item.index])
                elif token == drafts[i].tokens[step] and step + 1 < len(drafts[i].tokens):
                    agreed.append(i)
            following = agreed
            step += 1
        live = [item for item in live if item.index not in results]
    return [results[number] for number in range(len(requests))]


def _request(item: Item) -> DualRequest:
    assert isinstance(item.request, DualRequest)
    return item.request


def _drafts(streams: Streams, live: Sequence[Item], block: int) -> list[Draft]:
    """One draft per item; items that end at other tokens are drafted apart."""
    groups: dict[frozenset[int], list[int]] = {}
    for number, item in enumerate(live):
        groups.setdefault(item.request.stop_ids, []).append(number)
    drafts: dict[int, Draft] = {}
    for stop, members in groups.items():
        contexts = [[*_request(live[i]).reference_ids, *live[i].tokens] for i in members]
        counts = [min(block, live[i].limit - len(live[i].tokens)) for i in members]
        drafts.update(zip(members, streams.draft(contexts, counts, stop), strict=True))
    return [drafts[number] for number in range(len(live))]
