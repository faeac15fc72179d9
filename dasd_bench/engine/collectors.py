"""What is collected from the logits of target tokens: full token scores, or the sum that ranks choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dasd_bench.engine.errors import EngineError
from dasd_bench.engine.requests import LogLikelihood, ScoreRequest
from dasd_bench.engine.types import TokenScores
from dasd_bench.engine.vocabulary import Vocabulary, ranks


class NotFiniteError(EngineError):
    """Logits that are not finite, seen while ``suspects`` (request numbers) were computed together."""

    def __init__(self, requests: Sequence[ScoreRequest], places: Sequence[tuple[int, int]], first: int) -> None:
        request, index = places[first]
        super().__init__(
            f"The model returned non-finite logits for {requests[request].name} at target token {index}; "
            "check its weights and dtype."
        )
        self.suspects = sorted({request for request, _ in places})


def _check(normaliser: Tensor, requests: Sequence[ScoreRequest], places: Sequence[tuple[int, int]]) -> None:
    good = torch.isfinite(normaliser)
    if not bool(good.all()):
        raise NotFiniteError(requests, places, int((~good).nonzero()[0]))


class ScoreCollector:
    """Gathers :class:`~dasd_bench.engine.types.TokenScores`."""

    def __init__(
        self,
        requests: Sequence[ScoreRequest],
        vocabulary: Vocabulary,
        on_result: Callable[[int, TokenScores], None] | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        self._requests = requests
        self._on_result = on_result
        self._left = [len(request.target_ids) for request in requests]
        sizes = [len(request.target_ids) for request in requests]
        self._floats = [np.empty((3, size), dtype=np.float32) for size in sizes]
        self._ranks = [np.empty(size, dtype=np.int32) for size in sizes]

    def take(self, logits: Tensor, tokens: Tensor, places: Sequence[tuple[int, int]]) -> None:
        """See :class:`dasd_bench.engine.scoring.Collector`."""
        summary = self._vocabulary.summary(logits)
        _check(summary.normaliser, self._requests, places)
        chosen = logits.gather(1, tokens.unsqueeze(1))
        rank = ranks(logits, chosen).tolist()
        best = logits.gather(1, summary.top.unsqueeze(1)).squeeze(1) - summary.normaliser
        logp = chosen.squeeze(1) - summary.normaliser
        columns = torch.stack([logp, best, summary.entropy], dim=1).cpu().numpy()
        for number, (request, index) in enumerate(places):
            self._floats[request][:, index] = columns[number]
            self._ranks[request][index] = rank[number]
            self._left[request] -= 1
            if self._left[request] == 0 and self._on_result is not None:
                self._on_result(request, self.result(request))

    def result(self, request: int) -> TokenScores:
        """The scores of one request."""
        logp, top1, entropy = self._floats[request]
        return TokenScores(logp=logp, top1_logp=top1, entropy=entropy, rank=self._ranks[request])


class SumCollector:
    """Gathers :class:`LogLikelihood`."""

    def __init__(
        self,
        requests: Sequence[ScoreRequest],
        vocabulary: Vocabulary,
        on_result: Callable[[int, LogLikelihood], None] | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        self._requests = requests
        self._on_result = on_result
        self._left = [len(request.target_ids) for request in requests]
        self._logp = [np.zeros(len(request.target_ids)) for request in requests]
        self._greedy = [True] * len(requests)

    def take(self, logits: Tensor, tokens: Tensor, places: Sequence[tuple[int, int]]) -> None:
        """See :class:`dasd_bench.engine.scoring.Collector`."""
        normaliser, top = self._vocabulary.likeliest(logits)
        _check(normaliser, self._requests, places)
        logp = (logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - normaliser).tolist()
        greedy = (top == tokens).tolist()
        for number, (request, index) in enumerate(places):
            self._logp[request][index] = logp[number]
            self._greedy[request] &= greedy[number]
            self._left[request] -= 1
            if self._left[request] == 0 and self._on_result is not None:
                self._on_result(request, self.result(request))

    def result(self, request: int) -> LogLikelihood:
        """The sum of one request."""
        values = self._logp[request]
        return LogLikelihood(logp=float(values.sum()), greedy=self._greedy[request], tokens=len(values))
