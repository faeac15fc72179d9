"""Memory in use while training."""

from __future__ import annotations

import psutil
import torch


class Memory:
    """Memory in use, sampled where a step's activations are all alive: GiB of the process, or of the GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.last = self.peak = 0.0
        self._process = psutil.Process()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def sample(self) -> None:
        """Takes one sample."""
        if self.device.type == "cuda":
            self.last = torch.cuda.max_memory_allocated(self.device) / 2**30
        else:
            self.last = self._process.memory_info().rss / 2**30
        self.peak = max(self.peak, self.last)
