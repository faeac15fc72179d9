"""Dual decoding with two models: the base stream on one, the reference stream on the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dasd_bench.engine.model_runner import ModelRunner
from dasd_bench.engine.session import Prompts, Session


class PairSession:
    """Two sessions of one context each as one of two: row 2i is the base's, row 2i + 1 the reference stream's."""

    def __init__(self, base: Session, reference: Session) -> None:
        self._sessions = (base, reference)

    def admit(self, items: Sequence[Prompts]) -> Tensor:
        """See :class:`~dasd_bench.engine.session.Session`."""
        return interleave(*(one.admit([[item[i]] for item in items]) for i, one in enumerate(self._sessions)))

    def step(self, tokens: Sequence[int]) -> Tensor:
        """See :class:`~dasd_bench.engine.session.Session`."""
        return interleave(*(one.step(tokens[i::2]) for i, one in enumerate(self._sessions)))

    def drop(self, item: int) -> None:
        """See :class:`~dasd_bench.engine.session.Session`."""
        for one in self._sessions:
            one.drop(item)

    def fork(self, item: int) -> None:
        """See :class:`~dasd_bench.engine.session.Session`."""
        for one in self._sessions:
            one.fork(item)


def pair_logits(base: ModelRunner, reference: ModelRunner, hidden: Tensor) -> Tensor:
    """Logits [2 B, V] of interleaved hidden states [2 B, width], each row by its own model's head."""
    return interleave(base.logits(hidden[0::2].contiguous()), reference.logits(hidden[1::2].contiguous()))


def interleave(even: Tensor, odd: Tensor) -> Tensor:
    """Rows [2 B, width] of two tensors [B, width] in turn."""
    return torch.stack([even, odd], dim=1).flatten(0, 1)
