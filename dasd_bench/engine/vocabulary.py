"""Statistics of rows of logits: by the compiled kernel, or by torch a few rows at a time.

In torch temporaries the size of [B, V] would each be fresh pages.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dasd_bench.engine.kernels.rows import RowKernels

TOGETHER = 1 << 19
"""Logits looked at together (2 MiB in float32): what stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Of B rows of logits: log-sum-exp float32 [B] (not finite where they are no numbers), the index of the first
    largest int64 [B], the entropy in nats float32 [B]."""

    normaliser: Tensor
    top: Tensor
    entropy: Tensor


class Vocabulary:
    """Summaries of rows of logits with ``kernels``, or without them."""

    def __init__(self, kernels: RowKernels | None) -> None:
        self._kernels = kernels

    def normalise(self, logits: Tensor) -> Summary:
        """Turns ``logits`` float32 [B, V] into log-probabilities, in place; gives what they were like."""
        if (kernels := self._kernels) is not None and logits.is_contiguous():
            return Summary(*kernels.summarise(logits, True))
        normaliser, top = self.likeliest(logits)
        return Summary(normaliser, top, _entropy(logits.sub_(normaliser.unsqueeze(1))))

    def summary(self, logits: Tensor) -> Summary:
        """What ``logits`` float32 [B, V] are like."""
        if (kernels := self._kernels) is not None and logits.is_contiguous():
            return Summary(*kernels.summarise(logits, False))
        normaliser, top = self.likeliest(logits)
        parts = zip(_pieces(logits), _pieces(normaliser.unsqueeze(1), logits.shape[1]), strict=True)
        return Summary(normaliser, top, torch.cat([_entropy(piece - level) for piece, level in parts]))

    def likeliest(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Log-sum-exp and first largest of ``logits`` float32 [B, V], as in :class:`Summary`."""
        if (kernels := self._kernels) is not None and logits.is_contiguous():
            return kernels.summarise(logits, False)[:2]
        return torch.cat([torch.logsumexp(piece, dim=-1) for piece in _pieces(logits)]), logits.argmax(dim=-1)


def _pieces(rows: Tensor, width: int | None = None) -> tuple[Tensor, ...]:
    """``rows`` a few at a time, as many as are looked at together where they have ``width`` numbers."""
    few = max(1, TOGETHER // (width or rows.shape[1]))
    return torch.split(rows, few if rows.device.type == "cpu" else rows.shape[0])


def _entropy(logp: Tensor) -> Tensor:
    # p log p with p = 0 counts as 0: a masked logit would make it 0 * -inf.
    least = torch.finfo(logp.dtype).min
    return torch.cat([-(piece.exp().mul_(piece.clamp(min=least))).sum(dim=-1) for piece in _pieces(logp)])


def ranks(logits: Tensor, chosen: Tensor) -> Tensor:
    """How many logits of a row [B, V] are above ``chosen`` [B, 1], int64 [B]."""
    pieces = _pieces(logits)
    bars = torch.split(chosen, pieces[0].shape[0])
    return torch.cat([(piece > bar).sum(dim=-1) for piece, bar in zip(pieces, bars, strict=True)])
