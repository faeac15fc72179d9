"""Memory that training takes."""

from __future__ import annotations

import psutil
import torch


class Memory:
    """Memory of the process, or of the GPU, in GiB, sampled where a step's activations are all alive.

    ``last`` is what was in use at the last sample. ``peak`` is the most that any sample had beyond what was in use
    when this was made: what the process held already, from arms trained before in it, is no part of it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.last = self.peak = 0.0
        self._process = psutil.Process()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._start = self._in_use()

    def sample(self) -> None:
        """Takes one sample."""
        self.last = self._in_use()
        self.peak = max(self.peak, self.last - self._start)

    def _in_use(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        return float(self._process.memory_info().rss) / 2**30
