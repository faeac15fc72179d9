"""Divergences of next-token distributions, for ``token_loss``: teacher T (no gradient) and student S (with gradient).

All take logits [..., V] and give nats [...], one number per token; several teachers [K, N, V] broadcast against [N, V].
``temperature`` divides both logits; the result is not multiplied by its square. With ``top_k`` the vocabulary is cut to
the k likeliest tokens of ``support``: both distributions are renormalised there, or, with ``tail``, the rest of each is
kept as one more token. 0 takes the full vocabulary.

Nothing here imports torch: the functions are written in the tensors' own methods.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Support = Literal["student", "teacher"]
Estimator = Literal["k1", "k3"]


def forward_kl(
    teacher: Tensor,
    student: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    support: Support = "student",
    tail: bool = False,
) -> Tensor:
    """KL(T || S) = sum_v T(v) (log T(v) - log S(v)): the student covers all that the teacher does."""
    return _kl(*_cut(teacher, student, temperature, top_k, support, tail)).sum(-1)


def reverse_kl(
    teacher: Tensor,
    student: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    support: Support = "student",
    tail: bool = False,
) -> Tensor:
    """KL(S || T) = sum_v S(v) (log S(v) - log T(v)): the student seeks the teacher's modes."""
    log_t, log_s = _cut(teacher, student, temperature, top_k, support, tail)
    return _kl(log_s, log_t).sum(-1)


def generalized_jsd(
    teacher: Tensor,
    student: Tensor,
    beta: float = 0.5,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    support: Support = "student",
    tail: bool = False,
    clip: float = 0.0,
) -> Tensor:
    """beta KL(T || M) + (1 - beta) KL(S || M) with M = beta T + (1 - beta) S (GKD, arXiv 2306.13649, eq. 1).

    beta 0 gives KL(T || S) and beta 1 gives KL(S || T), as in GKD's and OPSD's code. These are the limits of JSD / beta
    and of JSD / (1 - beta): the formula itself goes to 0 at both ends, so a loss near them is small.
    ``clip`` above 0 is the most that one vocabulary entry adds to the sum (OPSD's ``jsd_token_clip``).
    """
    log_t, log_s = _cut(teacher, student, temperature, top_k, support, tail)
    if beta == 0:
        terms = _kl(log_t, log_s)
    elif beta == 1:
        terms = _kl(log_s, log_t)
    else:
        mixture = (log_t + math.log(beta)).logaddexp(log_s + math.log1p(-beta))
        terms = beta * _kl(log_t, mixture) + (1 - beta) * _kl(log_s, mixture)
    return (terms.clamp(max=clip) if clip else terms).sum(-1)


def sampled_reverse_kl(teacher_logp: Tensor, student_logp: Tensor, estimator: Estimator = "k1") -> Tensor:
    """An estimate of KL(S || T) from the log-probabilities [...] of one token each, where these were drawn from S.

    ``k1``: log S - log T, unbiased, of either sign. Its gradient here estimates that of the KL, (log S - log T) grad
    log S; the plain derivative, grad log S, has mean 0. ``k3``: r - 1 - log r with r = T / S, unbiased, never negative,
    of less variance; its derivative (1 - r) grad log S has the mean of the gradient of KL(T || S), not of KL(S || T).
    """
    log_ratio = student_logp - teacher_logp
    if estimator == "k3":
        return (-log_ratio).expm1() + log_ratio
    value = log_ratio.detach()
    return value + value * (student_logp - student_logp.detach())


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """What each entry adds to KL(P || Q)."""
    return log_p.exp() * (log_p - log_q)


def _cut(
    teacher: Tensor, student: Tensor, temperature: float, top_k: int, support: Support, tail: bool
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of both on the common support."""
    log_t, log_s = ((logits / temperature).log_softmax(-1) for logits in (teacher, student))
    if not 0 < top_k < log_s.shape[-1]:
        return log_t, log_s
    indices = (log_s if support == "student" else log_t).detach().topk(top_k, dim=-1).indices
    shape = log_t.shape
    indices = indices.expand(*shape[:-1], top_k)
    return _on(log_t, indices, tail), _on(log_s.expand(shape), indices, tail)


def _on(log_p: Tensor, indices: Tensor, tail: bool) -> Tensor:
    """``log_p`` [..., V] on the support ``indices`` [..., k], renormalised or with the rest as token k."""
    chosen = log_p.gather(-1, indices)
    if not tail:
        return chosen.log_softmax(-1)
    # Summed over the tokens left out: 1 minus the chosen mass would be rounding alone where that is nearly 1.
    rest = log_p.scatter(-1, indices, -math.inf).logsumexp(-1, keepdim=True)
    k = indices.shape[-1]
    wide = chosen.new_zeros(*chosen.shape[:-1], k + 1)
    return wide.slice_scatter(chosen, -1, 0, k).slice_scatter(rest, -1, k)
