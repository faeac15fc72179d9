"""The one loss: sum of w_t * nll_t over trained positions, forward and backward in chunks of rows.

The vocabulary head runs on trained positions only, never on [batch, length, vocabulary]. The caller divides the
summed gradient by the batch's denominator at the optimiser step, which is exact whatever the packing, and needs
no second pass where the denominator is only known once an online rule has seen every token of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dasd_bench.errors import TrainingError
from dasd_bench.methods.context import LiveTokens

CHUNK_ROWS = 128
"""Rows of logits held at once: the fastest on CPU of 32 to 256; a chunk of a 128k vocabulary is 67 MB in float32."""

OnlineRule = Callable[[LiveTokens], Tensor]


@dataclass(frozen=True, slots=True)
class Head:
    """The vocabulary head: ``linear``, then ``scale`` and tanh soft-capping (Gemma 2) of the logits."""

    linear: nn.Module
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits float32 [N, V] of ``hidden`` [N, D]."""
        raw: Tensor = self.linear(hidden)
        return self.shape(raw.float())

    def shape(self, raw: Tensor) -> Tensor:
        """The model's logits from the linear layer's float32 output."""
        scaled = raw if self.scale == 1.0 else raw * self.scale
        return scaled if self.softcap is None else torch.tanh(scaled / self.softcap) * self.softcap


@dataclass(frozen=True, slots=True)
class Objective:
    """What weighs a token: static weights alone, or times an online ``rule`` on the live probabilities.

    The rule must look at each token by itself: it is called on pieces of the batch, and the loss must not depend on
    how the batch was cut. ``progress`` in [0, 1] is passed on to it.
    """

    rule: OnlineRule | None = None
    needs_entropy: bool = False


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """Sums over some rows: ``loss`` of w_t * nll_t, ``kept`` tokens whose weight is above zero."""

    loss: float
    kept: int


def backward_tokens(
    hidden: Tensor,
    labels: Tensor,
    static: Tensor,
    keep: Tensor,
    head: Head,
    objective: Objective,
    progress: float = 0.0,
    chunk_rows: int = CHUNK_ROWS,
) -> tuple[TokenLoss, Tensor]:
    """Runs head, cross-entropy and their backward pass on ``hidden`` [N, D], ``labels``, ``static``, ``keep`` [N].

    Gives the sums and the gradient of the summed loss with respect to ``hidden``; gradients of a trained head are
    added to its parameters. Weights carry no gradient. Raises :class:`TrainingError` where a rule gives weights of
    another shape, negative or not finite.
    """
    gradient = torch.empty_like(hidden)
    loss, kept = 0.0, 0
    for start in range(0, len(hidden), chunk_rows):
        rows = slice(start, start + chunk_rows)
        leaf = hidden[rows].detach().requires_grad_()
        raw: Tensor = head.linear(leaf)
        y = labels[rows]
        with torch.no_grad():
            z = head.shape(raw.detach().float())
            logp, entropy, probs = token_statistics(z, y, needs_entropy=objective.needs_entropy)
            weights = token_weights(objective, logp, entropy, static[rows], keep[rows], progress)
            loss += float((weights.double() * -logp.double()).sum())
            kept += int((weights > 0).sum())
            # d(w * nll)/dz = w * (softmax(z) - onehot(y)), built in the buffer of the probabilities.
            probs.mul_(weights[:, None])
            probs[torch.arange(len(y), device=y.device), y] -= weights
            if head.softcap is not None:
                probs.mul_(1.0 - (z / head.softcap).square_())
            if head.scale != 1.0:
                probs.mul_(head.scale)
            del z
        torch.autograd.backward(raw, probs.to(raw.dtype))
        assert leaf.grad is not None
        gradient[rows] = leaf.grad
    return TokenLoss(loss, kept), gradient


@torch.no_grad()
def forward_tokens(hidden: Tensor, labels: Tensor, static: Tensor, head: Head, chunk_rows: int = CHUNK_ROWS) -> float:
    """Sum of ``static`` * nll over ``hidden`` [N, D] in nats, without gradient."""
    loss = 0.0
    for start in range(0, len(hidden), chunk_rows):
        rows = slice(start, start + chunk_rows)
        logp, _, _ = token_statistics(head.logits(hidden[rows]), labels[rows], needs_entropy=False)
        loss += float((static[rows].double() * -logp.double()).sum())
    return loss


def token_statistics(z: Tensor, labels: Tensor, *, needs_entropy: bool) -> tuple[Tensor, Tensor | None, Tensor]:
    """``logp`` of the labels [N], entropy in nats [N] or None, and probabilities [N, V] of logits ``z`` float32.

    The log-normaliser is read off the likeliest token, whose probability is never tiny, so logp stays exact where
    the label's own probability underflows. Float32 softmax over a large vocabulary sums to slightly less than 1 (up
    to 1e-5 in log, always to the same side); dividing by that sum takes the bias out.
    """
    probs = torch.softmax(z, dim=-1)
    top = z.amax(dim=-1)
    log_top = probs.amax(dim=-1).log() - probs.sum(dim=-1).log()
    logp = z.gather(1, labels[:, None])[:, 0] - top + log_top
    entropy = None
    if needs_entropy:
        entropy = top - log_top - torch.linalg.vecdot(probs, z)
    return logp, entropy, probs


def token_weights(
    objective: Objective, logp: Tensor, entropy: Tensor | None, static: Tensor, keep: Tensor, progress: float
) -> Tensor:
    """Static weights, times the rule's where there is one; ``keep`` tokens never fall below their static weight."""
    if objective.rule is None:
        return static
    online = objective.rule(LiveTokens(logp=logp, entropy=entropy, static=static, keep=keep, progress=progress))
    if online.shape != static.shape:
        raise TrainingError(
            f"The online rule gave weights of shape {tuple(online.shape)} for {len(static)} tokens; give one each."
        )
    weights = static * online.detach().to(static.dtype)
    # A logp that is not finite is reported as divergence by the trainer; only weights that are wrong by themselves
    # are the rule's own fault.
    bad = ~torch.isfinite(weights) | (weights < 0)
    if bool((bad & torch.isfinite(logp)).any()):
        raise TrainingError("The online rule gave a weight that is negative or not finite; clip it in the method.")
    return torch.where(keep, torch.maximum(weights, static), weights)


def denominator_tokens(kind: str, kept: int, target_tokens: int) -> int:
    """``kept``: tokens whose weight is above zero, each counted once however small its weight; ``all``: all tokens."""
    return kept if kind == "kept" else target_tokens
