"""Statistics of rows of logits, a few rows at a time: temporaries the size of [B, V] would each be fresh pages."""

from __future__ import annotations

import torch
from torch import Tensor

TOGETHER = 1 << 19
"""Logits looked at together (2 MiB in float32): what stays in the processor's cache."""


def _pieces(logits: Tensor) -> tuple[Tensor, ...]:
    rows = logits.shape[0] if logits.device.type != "cpu" else max(1, TOGETHER // logits.shape[1])
    return torch.split(logits, rows)


def logsumexp(logits: Tensor) -> Tensor:
    """Log-sum-exp float32 [B] of ``logits`` float32 [B, V]; nan where they are no numbers."""
    return torch.cat([torch.logsumexp(piece, dim=-1) for piece in _pieces(logits)])


def normalise(logits: Tensor) -> Tensor:
    """Turns ``logits`` float32 [B, V] into log-probabilities, in place; gives their log-sum-exp [B]."""
    normaliser = logsumexp(logits)
    logits -= normaliser.unsqueeze(1)
    return normaliser


def entropy(logp: Tensor) -> Tensor:
    """Entropy in nats, float32 [B], of log-probabilities ``logp`` float32 [B, V]."""
    # p log p with p = 0 counts as 0: a masked logit would make it 0 * -inf.
    least = torch.finfo(logp.dtype).min
    return torch.cat([-(piece.exp().mul_(piece.clamp(min=least))).sum(dim=-1) for piece in _pieces(logp)])


def ranks(logits: Tensor, chosen: Tensor) -> Tensor:
    """How many logits of a row [B, V] are above ``chosen`` [B, 1], int64 [B]."""
    pieces = _pieces(logits)
    bars = torch.split(chosen, pieces[0].shape[0])
    return torch.cat([(piece > bar).sum(dim=-1) for piece, bar in zip(pieces, bars, strict=True)])
