"""From logits to tokens: greedy or sampled proposals, one seeded stream of uniform numbers per example."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dasd_bench.engine.types import Sampling

NUCLEUS = 1024
"""Candidates looked at first for top-p; where they hold less than top-p of the mass the whole row is sorted."""


def uniforms(seed: int, steps: int, per_step: int) -> np.ndarray:
    """``per_step`` uniform numbers for each of ``steps`` steps of one example, float32 [steps, per_step]."""
    return np.random.default_rng(seed).random((steps, per_step), dtype=np.float32)


def propose(logits: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """One token per row, int64 [B]: the likeliest where temperature is 0, else drawn by inverting ``uniform`` [B].

    ``logits`` float32 [B, V], normalised or not. The order is transformers': temperature, top-k, top-p.
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    scaled = logits / sampling.temperature
    if sampling.top_k == 0 and sampling.top_p >= 1:
        return _draw(torch.softmax(scaled, dim=-1), uniform).squeeze(1)
    vocabulary = logits.shape[-1]
    count = min(sampling.top_k or NUCLEUS, vocabulary)
    while True:
        values, indices = torch.topk(scaled, count, dim=-1)
        if sampling.top_k:
            probs = torch.softmax(values, dim=-1)
        else:
            probs = torch.exp(values - torch.logsumexp(scaled, dim=-1, keepdim=True))
        before = probs.cumsum(dim=-1) - probs
        # The nucleus: the smallest head whose mass reaches top-p; its last member is the one that crosses it.
        nucleus = torch.where(before < sampling.top_p, probs, 0.0)
        if sampling.top_k or count == vocabulary or bool((before[:, -1] + probs[:, -1] >= sampling.top_p).all()):
            break
        count = vocabulary
    return indices.gather(1, _draw(nucleus, uniform)).squeeze(1)


def _draw(probs: Tensor, uniform: Tensor) -> Tensor:
    """The index [B, 1] where the running sum of ``probs`` [B, V] passes ``uniform`` [B] of the total."""
    sums = probs.double().cumsum(dim=-1)
    total = sums[:, -1:]
    heights = torch.minimum(uniform.double().unsqueeze(1) * total, torch.nextafter(total, torch.zeros_like(total)))
    # ``searchsorted`` finds the first sum >= height; a height of 0 must not fall on a token of probability 0.
    drawn = torch.searchsorted(sums, torch.clamp(heights, min=torch.finfo(torch.float64).tiny))
    # Past the end only where the logits are no numbers, which the caller reports by item.
    return drawn.clamp(max=probs.shape[-1] - 1)
