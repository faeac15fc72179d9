"""The one loss: sum of w_t * nll_t over trained positions, forward and backward in chunks of rows.

The vocabulary head runs on trained positions only, never on [batch, length, vocabulary]. The caller divides the
summed gradient by the batch's denominator at the optimiser step, which is exact whatever the packing, and needs
no second pass where the denominator is only known once an online rule has seen every token of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dasd_bench.methods.context import LiveLogits, LiveTokens

CHUNK_ROWS = 128
"""Rows of logits held at once: the fastest on CPU of 32 to 256; a chunk of a 128k vocabulary is 67 MB in float32."""

OnlineRule = Callable[[LiveTokens], Tensor]
TokenLossRule = Callable[[LiveLogits], Tensor]


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
class Statistics:
    """What a rule sees of the live model, float32 without gradient: ``logp`` of the labels [N], entropy in nats [N] or
    None, ``teacher_logp`` of the labels [K, N] or None."""

    logp: Tensor
    entropy: Tensor | None = None
    teacher_logp: Tensor | None = None


@dataclass(frozen=True, slots=True)
class TeacherStates:
    """Last hidden states [N, D] of K teachers at the trained positions, and the head that makes their logits."""

    hidden: tuple[Tensor, ...]
    head: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def logits(self) -> Tensor:
        """Float32 [K, N, V]: for a chunk of rows only."""
        return torch.stack([self.head(hidden) for hidden in self.hidden])

    def part(self, rows: slice) -> TeacherStates:
        """Some of the positions."""
        return TeacherStates(tuple(hidden[rows] for hidden in self.hidden), self.head)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The trained positions of a pack, all [N]: ``labels`` int64, ``static`` float32, ``keep`` bool, ``row`` int64 (the
    target's place in the batch), ``position`` int64 (the index in the target), ``columns`` float32 by name; ``teacher``
    where the method has one."""

    labels: Tensor
    static: Tensor
    keep: Tensor
    row: Tensor
    position: Tensor
    columns: Mapping[str, Tensor]
    teacher: TeacherStates | None = None

    def part(self, rows: slice) -> Tokens:
        """Some of them."""
        return Tokens(
            self.labels[rows],
            self.static[rows],
            self.keep[rows],
            self.row[rows],
            self.position[rows],
            {name: values[rows] for name, values in self.columns.items()},
            None if self.teacher is None else self.teacher.part(rows),
        )


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
    """Sums over ``tokens``: weighted ``loss``, ``kept`` tokens with a weight above zero, unweighted ``nll`` in nats."""

    loss: float = 0.0
    kept: int = 0
    nll: float = 0.0
    tokens: int = 0

    def __add__(self, other: TokenLoss) -> TokenLoss:
        return TokenLoss(
            self.loss + other.loss, self.kept + other.kept, self.nll + other.nll, self.tokens + other.tokens
        )


def backward_tokens(
    hidden: Tensor,
    tokens: Tokens,
    head: Head,
    objective: Objective,
    progress: float = 0.0,
    chunk_rows: int = CHUNK_ROWS,
) -> tuple[TokenLoss, Tensor]:
    """Runs head, cross-entropy and their backward pass on ``hidden`` [N, D] of N ``tokens``.

    Gives the sums and the gradient of the summed loss with respect to ``hidden``; gradients of a trained head are
    added to its parameters. Weights carry no gradient.
    """
    gradient = torch.empty_like(hidden)
    sums = TokenLoss()
    for start in range(0, len(hidden), chunk_rows):
        rows = slice(start, start + chunk_rows)
        leaf = hidden[rows].detach().requires_grad_()
        raw: Tensor = head.linear(leaf)
        own = tokens.part(rows)
        y = own.labels
        with torch.no_grad():
            z = head.shape(raw.detach().float())
            logp, entropy, probs = token_statistics(z, y, needs_entropy=objective.needs_entropy)
            live = Statistics(logp, entropy, teacher_logp(own))
            weights = token_weights(objective, own, live, progress)
            sums += token_sums(weights, -logp, logp)
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
    return sums, gradient


def token_sums(weights: Tensor, losses: Tensor, logp: Tensor) -> TokenLoss:
    """The sums over tokens of ``weights``, ``losses`` and ``logp`` [N]."""
    return TokenLoss(
        loss=float((weights.double() * losses.double()).sum()),
        kept=int((weights > 0).sum()),
        nll=-float(logp.double().sum()),
        tokens=len(logp),
    )


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


def token_weights(objective: Objective, tokens: Tokens, live: Statistics, progress: float) -> Tensor:
    """Static weights, times the rule's where there is one; ``keep`` tokens never fall below their static weight."""
    static = tokens.static
    if objective.rule is None:
        return static
    online = objective.rule(
        LiveTokens(
            logp=live.logp,
            entropy=live.entropy,
            teacher_logp=live.teacher_logp,
            static=static,
            keep=tokens.keep,
            progress=progress,
            row=tokens.row,
            position=tokens.position,
            columns=tokens.columns,
        )
    )
    weights = static * online
    return torch.where(tokens.keep, torch.maximum(weights, static), weights)


@torch.no_grad()
def decide_weights(
    hidden: Tensor,
    tokens: Tokens,
    head: Head,
    objective: Objective,
    progress: float,
    chunk_rows: int = CHUNK_ROWS,
) -> Tensor:
    """The rule's weights [N] before anything is trained: one more pass of the head over ``hidden`` [N, D]."""
    if objective.rule is None:
        return tokens.static
    return token_weights(objective, tokens, live_statistics(hidden, tokens, head, objective, chunk_rows), progress)


@torch.no_grad()
def live_statistics(
    hidden: Tensor, tokens: Tokens, head: Head, objective: Objective, chunk_rows: int = CHUNK_ROWS
) -> Statistics:
    """What the rule sees of all ``tokens``, from ``hidden`` [N, D] in chunks of logits."""
    logp = torch.empty(len(hidden), device=hidden.device)
    entropy = torch.empty_like(logp) if objective.needs_entropy else None
    teachers = []
    for start in range(0, len(hidden), chunk_rows):
        rows = slice(start, start + chunk_rows)
        z = head.logits(hidden[rows])
        logp[rows], own, _ = token_statistics(z, tokens.labels[rows], needs_entropy=objective.needs_entropy)
        if entropy is not None and own is not None:
            entropy[rows] = own
        teachers.append(teacher_logp(tokens.part(rows)))
    if tokens.teacher is None:
        return Statistics(logp, entropy)
    none = torch.empty(len(tokens.teacher.hidden), 0, device=logp.device)
    return Statistics(logp, entropy, torch.cat([none, *(part for part in teachers if part is not None)], dim=1))


def teacher_logp(tokens: Tokens, logits: Tensor | None = None) -> Tensor | None:
    """The teachers' logp of the labels [K, N], from their ``logits`` [K, N, V] where those are there already."""
    if tokens.teacher is None:
        return None
    every = tokens.teacher.logits() if logits is None else logits
    return torch.stack([token_statistics(z, tokens.labels, needs_entropy=False)[0] for z in every])


def row_means(weights: Tensor, row: Tensor) -> Tensor:
    """``weights`` [N] over the number of weights above zero in the same row: their sum of losses is a sum of means."""
    places, inverse = torch.unique(row, return_inverse=True)
    kept = torch.zeros(len(places), device=row.device).index_add_(0, inverse, (weights > 0).float())
    return weights / kept.clamp(min=1.0)[inverse]


def divisor(kind: str, kept: int, target_tokens: int, rows: int) -> int:
    """What a batch's loss is divided by.

    ``kept``: tokens whose weight is above zero, each counted once however small its weight; ``all``: all target tokens;
    ``rows``: all targets of the batch (the loss is a sum over their means then, 0 for one without any weight).
    """
    return {"kept": kept, "all": target_tokens, "rows": rows}[kind]
