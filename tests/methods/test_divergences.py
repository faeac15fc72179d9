"""The shared divergences against literal loops over the vocabulary and the formula of GKD's trainer."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dasd_bench.api import forward_kl, generalized_jsd, reverse_kl, sampled_reverse_kl


def logits(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def naive_kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def softmax(row: Tensor, temperature: float) -> list[float]:
    top = max(row.tolist())
    weights = [math.exp((x - top) / temperature) for x in row.tolist()]
    return [w / sum(weights) for w in weights]


def naive(teacher: Tensor, student: Tensor, beta: float, t: float, k: int, support: str, tail: bool) -> float:
    p, q = softmax(teacher, t), softmax(student, t)
    if k:
        by = q if support == "student" else p
        chosen = sorted(range(len(by)), key=lambda v: -by[v])[:k]
        p, q = ([x[v] for v in chosen] for x in (p, q))
        if tail:
            p, q = ([*x, 1 - sum(x)] for x in (p, q))
        else:
            p, q = ([v / sum(x) for v in x] for x in (p, q))
    if beta in (0, 1):
        return naive_kl(p, q) if beta == 0 else naive_kl(q, p)
    m = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
    return beta * naive_kl(p, m) + (1 - beta) * naive_kl(q, m)


@given(
    seed=st.integers(0, 1000),
    beta=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    temperature=st.sampled_from([0.7, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 5, 12]),
    support=st.sampled_from(["student", "teacher"]),
    tail=st.booleans(),
)
def test_divergences_equal_a_literal_loop(
    seed: int, beta: float, temperature: float, top_k: int, support: str, tail: bool
) -> None:
    teacher, student = logits(seed, 2, 3, 13), logits(seed + 1, 3, 13)
    options = {"temperature": temperature, "top_k": top_k, "support": support, "tail": tail}
    got = generalized_jsd(teacher, student, beta, **options)
    assert got.shape == (2, 3)
    for k in range(2):
        for n in range(3):
            wanted = naive(teacher[k, n], student[n], beta, temperature, top_k, support, tail)
            assert float(got[k, n]) == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    assert torch.equal(forward_kl(teacher, student, **options), generalized_jsd(teacher, student, 0, **options))
    assert torch.equal(reverse_kl(teacher, student, **options), generalized_jsd(teacher, student, 1, **options))


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
def test_values_and_gradients_equal_those_of_gkd(beta: float) -> None:
    """The formula of TRL's ``GKDTrainer.generalized_jsd_loss``, restated with ``kl_div``."""
    teacher, one, two = logits(3, 7, 50), logits(4, 7, 50).requires_grad_(), logits(4, 7, 50).requires_grad_()
    log_s, log_t = torch.log_softmax(two / 0.9, -1), torch.log_softmax(teacher / 0.9, -1)
    if beta in (0.0, 1.0):
        first, second = (log_s, log_t) if beta == 0 else (log_t, log_s)
        wanted = F.kl_div(first, second, reduction="none", log_target=True).sum(-1)
    else:
        m = torch.logsumexp(torch.stack([log_s + math.log(1 - beta), log_t + math.log(beta)]), 0)
        parts = [F.kl_div(m, x, reduction="none", log_target=True).sum(-1) for x in (log_t, log_s)]
        wanted = beta * parts[0] + (1 - beta) * parts[1]
    got = generalized_jsd(teacher, one, beta, temperature=0.9)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)
    got.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(one.grad, two.grad, rtol=1e-8, atol=1e-12)


def test_equal_distributions_have_no_divergence() -> None:
    same = logits(0, 4, 30)
    for top_k, tail in ((0, False), (5, False), (5, True)):
        for beta in (0.0, 0.5, 1.0):
            assert float(generalized_jsd(same, same, beta, top_k=top_k, tail=tail).abs().max()) < 1e-12


def test_a_support_that_holds_all_mass_has_a_finite_tail() -> None:
    sharp = torch.tensor([[100.0, 0.0, -100.0]]).requires_grad_()
    loss = forward_kl(torch.tensor([[90.0, 10.0, -50.0]]), sharp, top_k=2, tail=True)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(sharp.grad).all()


def test_sampled_estimates_have_the_means_they_promise() -> None:
    """Over the student's whole distribution, exactly: values and gradients."""
    teacher, student = logits(5, 20), logits(6, 20).requires_grad_()
    log_t, log_s = torch.log_softmax(teacher, -1), torch.log_softmax(student, -1)
    (reverse,) = torch.autograd.grad(reverse_kl(teacher, student), student, retain_graph=True)
    (forward,) = torch.autograd.grad(forward_kl(teacher, student), student, retain_graph=True)
    for estimator, gradient in (("k1", reverse), ("k3", forward)):
        losses = sampled_reverse_kl(log_t, log_s, estimator)
        mean = (log_s.exp().detach() * losses).sum()
        assert float(mean.detach()) == pytest.approx(float(reverse_kl(teacher, student).detach()), rel=1e-9)
        (got,) = torch.autograd.grad(mean, student, retain_graph=True)
        torch.testing.assert_close(got, gradient, rtol=1e-8, atol=1e-10)
