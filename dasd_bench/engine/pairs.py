"""Two contexts' next-token distributions along the same target, met token by token.

The hidden states of one context's pass are kept ([T, width]); the other context's pass meets them, and both become
distributions for a few rows at a time. ``[batch, length, vocabulary]`` never exists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dasd_bench.engine.divergence import ROWS, Head
from dasd_bench.engine.requests import ScoreRequest
from dasd_bench.engine.types import Floats

Measure = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Two log-probabilities float32 [N, V] and the target tokens int64 [N] to K numbers of each token, float32 [N, K]."""


class PairCollector:
    """Gathers what ``measure`` gives of each target token: float32 [T, K] per request.

    The running pass is the first context's; ``hidden`` are the states of the second one, of the same model.
    """

    def __init__(
        self,
        requests: Sequence[ScoreRequest],
        hidden: Sequence[Floats],
        head: Head,
        dtype: torch.dtype,
        measure: Measure,
        on_result: Callable[[int, int], None] | None = None,
    ) -> None:
        self._hidden = hidden
        self._head = head
        self._dtype = dtype
        self._measure = measure
        self._on_result = on_result
        self._lengths = [len(request.target_ids) for request in requests]
        self._left = list(self._lengths)
        self.found: list[Floats] = [np.empty((0, 0), dtype=np.float32) for _ in requests]

    def take(self, logits: Tensor, tokens: Tensor, places: Sequence[tuple[int, int]]) -> None:
        """See :class:`dasd_bench.engine.scoring.Collector`."""
        for start in range(0, len(places), ROWS):
            here = places[start : start + ROWS]
            states = np.stack([self._hidden[request][index] for request, index in here])
            other = self._head(torch.from_numpy(states).to(logits.device, self._dtype)).log_softmax(dim=-1)
            own = logits[start : start + ROWS].log_softmax(dim=-1)
            rows = self._measure(own, other, tokens[start : start + ROWS]).float().cpu().numpy()
            for (request, index), row in zip(here, rows, strict=True):
                if not self.found[request].size:
                    self.found[request] = np.empty((self._lengths[request], rows.shape[1]), dtype=np.float32)
                self.found[request][index] = row
                self._left[request] -= 1
                if self._left[request] == 0 and self._on_result is not None:
                    self._on_result(request, self._lengths[request])
