"""A method's own loss on the live logits, through autograd, in chunks of rows.

The counterpart of :func:`dasd_bench.training.loss.backward_tokens`, whose gradient is written out for the nll. Here the
logits of a chunk, the teachers' and what autograd keeps of them are alive together: with K teachers about 4 + 2K
matrices of [chunk, V] in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dasd_bench.methods.context import LiveLogits
from dasd_bench.training.loss import (
    CHUNK_ROWS,
    Head,
    Objective,
    Statistics,
    TokenLoss,
    TokenLossRule,
    Tokens,
    teacher_logp,
    token_statistics,
    token_sums,
    token_weights,
)


def backward_live(
    hidden: Tensor,
    tokens: Tokens,
    head: Head,
    objective: Objective,
    token_loss: TokenLossRule,
    progress: float = 0.0,
    chunk_rows: int = CHUNK_ROWS,
) -> tuple[TokenLoss, Tensor]:
    """The weighted sums of ``token_loss`` over N ``tokens`` and their gradient with respect to ``hidden`` [N, D].

    Weights come from ``objective`` and carry no gradient; gradients of a trained head are added to its parameters.
    """
    gradient = torch.zeros_like(hidden)
    sums = TokenLoss()
    for start in range(0, len(hidden), chunk_rows):
        rows = slice(start, start + chunk_rows)
        own = tokens.part(rows)
        leaf = hidden[rows].detach().requires_grad_()
        logits = head.logits(leaf)
        teacher = logits.new_empty(0, *logits.shape) if own.teacher is None else own.teacher.logits()
        losses = token_loss(
            LiveLogits(
                logits=logits,
                teacher_logits=teacher,
                labels=own.labels,
                row=own.row,
                position=own.position,
                columns=own.columns,
                progress=progress,
            )
        )
        with torch.no_grad():
            logp, entropy, _ = token_statistics(logits.detach(), own.labels, needs_entropy=objective.needs_entropy)
            asked = teacher_logp(own, teacher) if objective.rule is not None else None
            weights = token_weights(objective, own, Statistics(logp, entropy, asked), progress)
            sums += token_sums(weights, losses.detach(), logp)
        torch.autograd.backward(losses, weights)
        assert leaf.grad is not None
        gradient[rows] = leaf.grad
    return sums, gradient
