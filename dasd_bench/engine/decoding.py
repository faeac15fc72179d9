"""Continuous batching: requests wait in order of length, decode side by side and leave one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from dasd_bench.engine.memory import is_out_of_memory, release_memory
from dasd_bench.engine.network import Network
from dasd_bench.engine.recording import Item
from dasd_bench.engine.requests import DualRequest, EngineSettings, GenerateRequest
from dasd_bench.engine.session import PackedSession, PlainSession, Session
from dasd_bench.engine.static_step import StaticStore
from dasd_bench.engine.trie import Tokens
from dasd_bench.errors import EngineError
from dasd_bench.types import Finish

Result = TypeVar("Result")
Made = TypeVar("Made", covariant=True)

REFILL = 16
"""New items are admitted once this share (1/16) of the slots is free, so that prompts are computed together."""


class Recorder(Protocol[Made]):
    """How tokens are chosen and results made."""

    width: int
    uniforms: int

    def choose(self, logits: Tensor, items: Sequence[Item]) -> list[int]:
        """The next token of every item."""

    def result(self, item: Item, text: str, finish: Finish) -> Made:
        """The finished item."""


class Decoder(Generic[Result]):
    """Runs requests of one kind to their end."""

    def __init__(
        self,
        network: Network,
        tokenizer: Any,
        settings: EngineSettings,
        memory_bytes: int,
        recorder: Recorder[Result],
        static: StaticStore | None = None,
    ) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._settings = settings
        self._memory = memory_bytes
        self._recorder = recorder
        self._static = static

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

        slots = self._slots(requests, prompts)
        waiting = list(range(len(requests)))
        # Longest first: what does not fit fails at once, and the time left is an honest guess.
        waiting.sort(key=lambda i: (-max(len(p) for p in prompts[i]), i))
        while waiting:
            try:
                self._decode(requests, prompts, waiting, slots, emit)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if slots == 1:
                    raise EngineError(
                        f"There is not enough memory to decode {requests[waiting[0]].name} alone; "
                        "free memory, reduce the number of new tokens or use a smaller model."
                    ) from error
                slots = max(1, slots // 2)
                if self._static is not None:
                    self._static.clear()
                release_memory(self._network.device)
            waiting = [i for i in waiting if i not in results]
        return [results[i] for i in range(len(requests))]

    def _slots(self, requests: Sequence[GenerateRequest | DualRequest], prompts: Sequence[Sequence[Tokens]]) -> int:
        """As many as asked for and as fit, every item taken at its longest."""
        longest = max(max(map(len, p)) + self._limit(r, p) for r, p in zip(requests, prompts, strict=True))
        fit = self._memory // (longest * self._network.token_bytes * self._recorder.width)
        return int(max(1, min(self._settings.slots, fit, len(requests))))

    def _limit(self, request: GenerateRequest | DualRequest, prompts: Sequence[Tokens]) -> int:
        """New tokens that are asked for and that the context has room for."""
        context = self._network.context_length
        room = request.max_new_tokens if context is None else context - max(len(prompt) for prompt in prompts)
        return min(request.max_new_tokens, room)

    def _decode(
        self,
        requests: Sequence[GenerateRequest | DualRequest],
        prompts: Sequence[Sequence[Tokens]],
        order: Sequence[int],
        slots: int,
        emit: Callable[[int, Any], None],
    ) -> None:
        recorder, network = self._recorder, self._network
        session: Session
        if network.packed:
            everything = [prompt for i in order for prompt in prompts[i]]
            longest = max(max(map(len, prompts[i])) + self._limit(requests[i], prompts[i]) for i in order)
            static = None if self._static is None else self._static.steps(slots * recorder.width, longest + 1)
            prefill = self._settings.prefill_tokens
            session = PackedSession(network, slots, recorder.width, everything, prefill, longest + 1, static)
        else:
            session = PlainSession(network, recorder.width)
        queue = list(reversed(order))
        live: list[Item] = []
        hidden: Tensor | None = None
        while queue or live:
            free = slots - len(live)
            if queue and (not live or free >= min(len(queue), max(1, slots // REFILL))):
                taken = [queue.pop() for _ in range(min(free, len(queue)))]
                admitted = session.admit([prompts[i] for i in taken])
                hidden = admitted if hidden is None or not live else torch.cat([hidden, admitted])
                live += [Item(i, requests[i], recorder.uniforms, self._limit(requests[i], prompts[i])) for i in taken]
            assert hidden is not None
            for item, token in zip(live, recorder.choose(network.logits(hidden), live), strict=True):
                item.tokens.append(token)
            for number in range(len(live) - 1, -1, -1):
                item = live[number]
                if (finish := item.finish(self._tokenizer)) is None:
                    continue
                text = self._tokenizer.decode(item.tokens, skip_special_tokens=True)
                emit(item.index, recorder.result(item, text, finish))
                session.drop(number)
                live[number] = live[-1]
                live.pop()
            if live:
                hidden = session.step([item.tokens[-1] for item in live for _ in range(recorder.width)])
