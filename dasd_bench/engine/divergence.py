"""How far two models' next-token distributions are apart, token by token, without both models in memory.

The hidden states of one model before its vocabulary head are small ([T, width]) and can be kept; the other model's pass
then meets them again and both heads give logits for a few rows at a time. ``[batch, length, vocabulary]`` never exists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dasd_bench.engine.model_runner import ModelRunner
from dasd_bench.engine.requests import ScoreRequest
from dasd_bench.engine.types import Floats

ROWS = 64
"""Rows of logits [rows, V] compared at a time; about eight arrays of that shape exist at once."""

Head = Callable[[Tensor], Tensor]
"""Hidden states [N, width] to logits float32 [N, V]."""


class HeadlessRunner:
    """A model runner whose head gives the hidden states back: the scorer then hands them to its collector."""

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def logits(self, hidden: Tensor) -> Tensor:
        """The hidden states themselves."""
        return hidden


class HiddenStateCollector:
    """Gathers float32 [T, width] per request: row t is the state that predicts target token t."""

    def __init__(self, requests: Sequence[ScoreRequest]) -> None:
        self._lengths = [len(request.target_ids) for request in requests]
        self.found: list[Floats] = [np.empty((0, 0), dtype=np.float32) for _ in requests]

    def take(self, logits: Tensor, tokens: Tensor, places: Sequence[tuple[int, int]]) -> None:
        """See :class:`dasd_bench.engine.scoring.Collector`; ``logits`` are hidden states here."""
        rows = logits.float().cpu().numpy()
        for number, (request, index) in enumerate(places):
            if not self.found[request].size:
                self.found[request] = np.empty((self._lengths[request], rows.shape[1]), dtype=np.float32)
            self.found[request][index] = rows[number]


class DivergenceCollector:
    """Gathers the Jensen-Shannon divergence (nats, float32 [T] per request) between the running model and another.

    ``hidden`` holds the other model's states as :class:`HiddenStateCollector` gave them, ``head`` makes logits of them.
    """

    def __init__(
        self,
        requests: Sequence[ScoreRequest],
        hidden: Sequence[Floats],
        head: Head,
        dtype: torch.dtype,
        on_result: Callable[[int, int], None] | None = None,
    ) -> None:
        self._hidden = hidden
        self._head = head
        self._dtype = dtype
        self._on_result = on_result
        self._left = [len(request.target_ids) for request in requests]
        self.found: list[Floats] = [np.empty(len(r.target_ids), dtype=np.float32) for r in requests]

    def take(self, logits: Tensor, tokens: Tensor, places: Sequence[tuple[int, int]]) -> None:
        """See :class:`dasd_bench.engine.scoring.Collector`."""
        for start in range(0, len(places), ROWS):
            here = places[start : start + ROWS]
            states = np.stack([self._hidden[request][index] for request, index in here])
            other = self._head(torch.from_numpy(states).to(logits.device, self._dtype))
            found = jensen_shannon(logits[start : start + ROWS], other).tolist()
            for (request, index), value in zip(here, found, strict=True):
                self.found[request][index] = value
                self._left[request] -= 1
                if self._left[request] == 0 and self._on_result is not None:
                    self._on_result(request, len(self.found[request]))


def jensen_shannon(a: Tensor, b: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats, float32 [N], of the distributions with logits ``a`` and ``b`` [N, V].

    Between 0 and ln 2. Lin 1991, IEEE Trans. Inf. Theory 37:145; its square root is a distance (Endres and Schindelin
    2003).
    """
    log_p, log_q = a.log_softmax(dim=-1), b.log_softmax(dim=-1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2.0)
    halves = (log_p.exp() * (log_p - log_m)).sum(dim=-1) + (log_q.exp() * (log_q - log_m)).sum(dim=-1)
    return (0.5 * halves).clamp(min=0.0, max=math.log(2.0))
