"""What is chosen and noted at each step of decoding, for plain and for dual-context items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dasd_bench.engine.errors import EngineError
from dasd_bench.engine.markers import Markers
from dasd_bench.engine.requests import DualRequest, GenerateRequest
from dasd_bench.engine.sampling import propose, uniforms
from dasd_bench.engine.types import Choice, DualGeneration, DualStep, Finish, Generation, Sampling, StepRule
from dasd_bench.engine.vocabulary import Summary, Vocabulary

LOOKBACK = 8
"""Tokens decoded beyond those a stop string can span, so that a cut character does not hide it."""


class Item:
    """One request in the making: its tokens so far, at most ``limit``, and per token the numbers noted."""

    def __init__(self, index: int, request: GenerateRequest | DualRequest, per_step: int, limit: int) -> None:
        self.index = index
        self.limit = limit
        self.request = request
        self.tokens: list[int] = []
        self.notes: list[tuple[float, ...]] = []
        self.disagreed = 0
        self.replaced = 0
        greedy = request.sampling.temperature == 0 and per_step == 1
        self._uniforms = None if greedy else uniforms(request.seed, limit, per_step)

    def note(self, row: tuple[float, ...]) -> None:
        """Takes what was noted of a step of dual decoding: the token, and behind it the numbers of a result."""
        token, *numbers = row
        self.notes.append(tuple(numbers))
        own, candidate, kept = numbers[-3:]
        if own != candidate and not kept:
            self.disagreed += 1
            self.replaced += token != candidate

    def uniform(self, which: int) -> float:
        """The current step's number ``which`` from the item's own stream."""
        return 0.0 if self._uniforms is None else float(self._uniforms[len(self.tokens), which])

    def finish(self, tokenizer: Any) -> Finish | None:
        """Why the item is done after its last token, or None."""
        request = self.request
        if self.tokens[-1] in request.stop_ids:
            return "stop"
        if isinstance(request, GenerateRequest) and request.stop_strings:
            span = max(len(text.encode()) for text in request.stop_strings) + LOOKBACK
            tail = tokenizer.decode(self.tokens[-span:], skip_special_tokens=False)
            if any(text in tail for text in request.stop_strings):
                return "stop"
        return "length" if len(self.tokens) >= self.limit else None


def proposals(logits: Tensor, top: Tensor, items: Sequence[Item], which: int) -> Tensor:
    """Each item's own greedy or sampled token, int64 [B], from ``logits`` [B, V] with ``top`` [B] the likeliest."""
    kinds: dict[Sampling, list[int]] = {}
    for number, item in enumerate(items):
        kinds.setdefault(item.request.sampling, []).append(number)
    if all(sampling.temperature == 0 for sampling in kinds):
        return top
    drawn = torch.tensor([item.uniform(which) for item in items], device=logits.device)
    if len(kinds) == 1:
        return propose(logits, next(iter(kinds)), drawn)
    tokens = torch.empty(len(items), dtype=torch.int64, device=logits.device)
    for sampling, numbers in kinds.items():
        rows = torch.tensor(numbers, device=logits.device)
        tokens[rows] = propose(logits[rows], sampling, drawn[rows])
    return tokens


def fetch(columns: Sequence[Tensor], normaliser: Tensor, items: Sequence[Item]) -> list[list[float]]:
    """The ``columns`` [B] as lists, in one transfer from the device (token ids are exact in float32 up to 2**24).

    Stops at the first item whose logits are not numbers: ``normaliser`` [B] is their log-sum-exp.
    """
    values: list[list[float]] = torch.stack([normaliser, *columns]).tolist()
    for item, value in zip(items, values[0], strict=True):
        if not math.isfinite(value):
            raise EngineError(
                f"The model returned non-finite logits for {item.request.name} at new token {len(item.tokens)}; "
                "check its weights and dtype."
            )
    return values[1:]


class PlainSampler:
    """Plain decoding: one context, the log-probability of each token."""

    width = 1
    uniforms = 1

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def choose(self, logits: Tensor, items: Sequence[Item]) -> list[int]:
        """The next token of every item; notes its log-probability."""
        normaliser, top = self._vocabulary.likeliest(logits)
        tokens = proposals(logits, top, items, 0)
        logp = logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - normaliser
        chosen, noted = fetch([tokens, logp], normaliser, items)
        for item, value in zip(items, noted, strict=True):
            item.notes.append((value,))
        return [int(token) for token in chosen]

    def result(self, item: Item, text: str, finish: Finish) -> Generation:
        """The finished item."""
        (logp,) = np.array(item.notes, dtype=np.float32).T
        return Generation(np.array(item.tokens, dtype=np.int32), logp, text, finish)


class DualSampler:
    """Dual-context decoding: rows 2i (base) and 2i+1 (reference); the rule decides, both streams are noted."""

    width = 2
    uniforms = 3

    def __init__(self, rule: StepRule, vocabulary: Vocabulary, tokenizer: Any) -> None:
        self._rule = rule
        self._vocabulary = vocabulary
        self._markers = Markers(tokenizer)
        self._decode = partial(tokenizer.decode, skip_special_tokens=True)

    def choose(self, logits: Tensor, items: Sequence[Item]) -> list[int]:
        """The next token of every item; notes origin, both log-probabilities, entropy, top-1, both proposals, keep.

        ``logits`` become log-probabilities in place.
        """
        step, summary = self.step(logits, items)
        choice = self._rule(step)
        rows = self.noted(step, choice, summary, items)
        for item, row in zip(items, rows, strict=True):
            item.note(row)
        return [int(row[0]) for row in rows]

    def step(self, logits: Tensor, items: Sequence[Item]) -> tuple[DualStep, Summary]:
        """What a rule sees, and the statistics of ``logits``, which become log-probabilities in place."""
        summary = self._vocabulary.normalise(logits)
        base, reference = logits[0::2], logits[1::2]
        top = summary.top[0::2]
        candidates = proposals(reference, summary.top[1::2], items, 1)
        uniform = torch.tensor([item.uniform(2) for item in items], device=logits.device)
        step = DualStep(
            base_logp=base,
            reference_logp=reference,
            base_token=proposals(base, top, items, 0),
            reference_token=candidates,
            keep=self._keep(candidates, items),
            uniform=uniform,
            position=torch.tensor([len(item.tokens) for item in items], device=logits.device),
            tokens=[item.tokens for item in items],
            decode=self._decode,
            draw=partial(propose, uniform=uniform),
            parameters=self._parameters(items, logits.device),
            disagreed=torch.tensor([item.disagreed for item in items], device=logits.device),
            replaced=torch.tensor([item.replaced for item in items], device=logits.device),
        )
        return step, summary

    @staticmethod
    def noted(
        step: DualStep, choice: Choice, summary: Summary, items: Sequence[Item], rows: Tensor | None = None
    ) -> list[tuple[float, ...]]:
        """The chosen token of each item, and behind it what is noted of it.

        ``items`` and ``choice`` are those of all examples of the step, or of its examples ``rows`` int64.
        """
        base, reference, top = step.base_logp, step.reference_logp, summary.top[0::2]
        own = torch.arange(len(items), device=base.device) if rows is None else rows
        token = choice.token.to(torch.int64)
        columns = (
            choice.origin,
            base[own, token],
            reference[own, token],
            summary.entropy[0::2][own],
            base[own, top[own]],
            step.base_token[own],
            step.reference_token[own],
            step.keep[own],
        )
        normaliser = summary.normaliser[0::2] + summary.normaliser[1::2]
        return list(zip(*fetch([choice.token, *columns], normaliser[own], items), strict=True))

    @staticmethod
    def _parameters(items: Sequence[Item], device: torch.device) -> Tensor | None:
        given = [_dual(item).parameters for item in items]
        return torch.tensor(given, dtype=torch.float32, device=device) if any(given) else None

    def _keep(self, candidates: Tensor, items: Sequence[Item]) -> Tensor:
        """Bool [B]: candidates that ``keep`` protects."""
        if not any(_dual(item).keep_ids or _dual(item).keep_texts for item in items):
            return torch.zeros_like(candidates, dtype=torch.bool)
        protected = []
        for item, candidate in zip(items, candidates.tolist(), strict=True):
            request = _dual(item)
            protected.append(
                candidate in request.keep_ids or self._markers.touched(item.tokens, candidate, request.keep_texts)
            )
        return torch.tensor(protected, device=candidates.device)

    def result(self, item: Item, text: str, finish: Finish) -> DualGeneration:
        """The finished item."""
        origin, base, reference, entropy, top1, base_token, reference_token, keep = zip(*item.notes, strict=True)
        return DualGeneration(
            token_ids=np.array(item.tokens, dtype=np.int32),
            origin=np.array(origin, dtype=np.uint8),
            base_logp=np.array(base, dtype=np.float32),
            reference_logp=np.array(reference, dtype=np.float32),
            base_entropy=np.array(entropy, dtype=np.float32),
            base_top1_logp=np.array(top1, dtype=np.float32),
            base_token=np.array(base_token, dtype=np.int32),
            reference_token=np.array(reference_token, dtype=np.int32),
            keep=np.array(keep, dtype=np.uint8),
            text=text,
            finish=finish,
        )


def _dual(item: Item) -> DualRequest:
    assert isinstance(item.request, DualRequest)
    return item.request
