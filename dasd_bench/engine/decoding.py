"""Continuous batching: requests wait in order of length, decode side by side and leave one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from dasd_bench.engine.cuda_graphs import FixedShapePool
from dasd_bench.engine.errors import EngineError
from dasd_bench.engine.memory import is_out_of_memory, release_memory
from dasd_bench.engine.model_runner import ModelRunner
from dasd_bench.engine.pair_session import PairSession, pair_logits
from dasd_bench.engine.requests import DualRequest, EngineSettings, GenerateRequest
from dasd_bench.engine.samplers import Item
from dasd_bench.engine.session import PackedSession, PlainSession, Session
from dasd_bench.engine.trie import Tokens
from dasd_bench.engine.types import Finish

Result = TypeVar("Result")
Made = TypeVar("Made", covariant=True)

REFILL = 16
"""New items are admitted once this share (1/16) of the batch is free, so that prompts are computed together."""


class Sampler(Protocol[Made]):
    """How tokens are chosen and results made."""

    width: int
    uniforms: int

    def choose(self, logits: Tensor, items: Sequence[Item]) -> list[int]:
        """The next token of every item."""

    def result(self, item: Item, text: str, finish: Finish) -> Made:
        """The finished item."""


class Decoder(Generic[Result]):
    """Runs requests of one kind to their end; the second context of each is ``reference``'s where there is one."""

    branches = 1
    """Answers that one request may grow into."""

    def __init__(
        self,
        runner: ModelRunner,
        tokenizer: Any,
        settings: EngineSettings,
        memory_bytes: int,
        sampler: Sampler[Result],
        fixed: FixedShapePool | None = None,
        reference: ModelRunner | None = None,
    ) -> None:
        self._runner = runner
        self._tokenizer = tokenizer
        self._settings = settings
        self._memory = memory_bytes
        self._sampler = sampler
        self._fixed = fixed if reference is None else None
        self._reference = reference

    def run(
        self,
        requests: Sequence[GenerateRequest | DualRequest],
        prompts: Sequence[Sequence[Tokens]],
        on_result: Callable[[int, Any], None] | None,
    ) -> list[Any]:
        """Results in the order of the requests; ``prompts[i]`` are the contexts of request i."""
        results: dict[int, Result] = {}

        def emit(index: int, result: Result) -> None:
            results[index] = result
            if on_result is not None:
                on_result(index, result)

        max_num_seqs = self._max_num_seqs(requests, prompts)
        waiting = list(range(len(requests)))
        # Longest first: what does not fit fails at once, and the time left is an honest guess.
        waiting.sort(key=lambda i: (-max(len(p) for p in prompts[i]), i))
        while waiting:
            try:
                self._decode(requests, prompts, waiting, max_num_seqs, emit)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if max_num_seqs == 1:
                    raise EngineError(
                        f"There is not enough memory to decode {requests[waiting[0]].name} alone; "
                        "free memory, reduce the number of new tokens or use a smaller model."
                    ) from error
                max_num_seqs = max(1, max_num_seqs // 2)
                if self._fixed is not None:
                    self._fixed.clear()
                release_memory(self._runner.device)
            waiting = [i for i in waiting if i not in results]
        return [results[i] for i in range(len(requests))]

    def _max_num_seqs(
        self, requests: Sequence[GenerateRequest | DualRequest], prompts: Sequence[Sequence[Tokens]]
    ) -> int:
        """As many as asked for and as fit, every item taken at its longest."""
        longest = max(max(map(len, p)) + self._limit(r, p) for r, p in zip(requests, prompts, strict=True))
        fit = self._memory // (longest * self._runner.token_bytes * self._sampler.width)
        return int(max(1, min(self._settings.max_num_seqs * self.branches, fit, len(requests) * self.branches)))

    def _limit(self, request: GenerateRequest | DualRequest, prompts: Sequence[Tokens]) -> int:
        """New tokens that are asked for and that the context has room for."""
        context = self._runner.context_length
        room = request.max_new_tokens if context is None else context - max(len(prompt) for prompt in prompts)
        return min(request.max_new_tokens, room)

    def _decode(
        self,
        requests: Sequence[GenerateRequest | DualRequest],
        prompts: Sequence[Sequence[Tokens]],
        order: Sequence[int],
        max_num_seqs: int,
        emit: Callable[[int, Any], None],
    ) -> None:
        sampler = self._sampler
        session = self._session(requests, prompts, order, max_num_seqs)
        queue = list(reversed(order))
        live: list[Item] = []
        hidden: Tensor | None = None
        while queue or live:
            free = max_num_seqs - len(live)
            if queue and (not live or free >= min(len(queue), max(1, max_num_seqs // REFILL))):
                taken = [queue.pop() for _ in range(min(free, len(queue)))]
                admitted = session.admit([prompts[i] for i in taken])
                hidden = admitted if hidden is None or not live else torch.cat([hidden, admitted])
                live += [Item(i, requests[i], sampler.uniforms, self._limit(requests[i], prompts[i])) for i in taken]
            assert hidden is not None
            for item, token in zip(live, sampler.choose(self._logits(hidden), live), strict=True):
                item.tokens.append(token)
            for number in range(len(live) - 1, -1, -1):
                item = live[number]
                if (finish := item.finish(self._tokenizer)) is None:
                    continue
                text = self._tokenizer.decode(item.tokens, skip_special_tokens=True)
                emit(item.index, sampler.result(item, text, finish))
                session.drop(number)
                live[number] = live[-1]
                live.pop()
            if live:
                hidden = session.step([item.tokens[-1] for item in live for _ in range(sampler.width)])

    def _session(
        self,
        requests: Sequence[GenerateRequest | DualRequest],
        prompts: Sequence[Sequence[Tokens]],
        order: Sequence[int],
        max_num_seqs: int,
    ) -> Session:
        longest = max(max(map(len, prompts[i])) + self._limit(requests[i], prompts[i]) for i in order)

        def one(runner: ModelRunner, width: int, everything: Sequence[Tokens]) -> Session:
            if not runner.packed:
                return PlainSession(runner, width)
            fixed = None if self._fixed is None else self._fixed.steps(max_num_seqs * width, longest + 1)
            prefill = self._settings.prefill_tokens
            return PackedSession(runner, max_num_seqs, width, everything, prefill, longest + 1, fixed)

        if self._reference is None:
            return one(self._runner, self._sampler.width, [prompt for i in order for prompt in prompts[i]])
        base, reference = ([prompts[i][which] for i in order] for which in (0, 1))
        return PairSession(one(self._runner, 1, base), one(self._reference, 1, reference))

    def _logits(self, hidden: Tensor) -> Tensor:
        if self._reference is None:
            return self._runner.logits(hidden)
        return pair_logits(self._runner, self._reference, hidden)
