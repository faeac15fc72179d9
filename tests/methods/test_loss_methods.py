"""The losses and weights of methods that bring their own, against literal loops over tokens and vocabulary."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dasd_bench.api import Example, LiveLogits, Method, TrainExample
from dasd_bench.methods.base import build_method
from dasd_bench.methods.context import Generation, RolloutContext, Sampling
from dasd_bench.registry import Registry, discover
from dasd_bench.training.loss import row_means
from tests.methods.test_methods import scored
from tests.training.helpers import live_tokens

N, V = 9, 30


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


def make(registry: Registry, name: str, **options: object) -> Method:
    return build_method(registry.method(name).item, dict(options))


def live_logits(seed: int = 0, teachers: int = 1, scale: float = 2.0) -> LiveLogits:
    draw = torch.Generator().manual_seed(seed)
    return LiveLogits(
        logits=(torch.randn(N, V, generator=draw) * scale).requires_grad_(),
        teacher_logits=torch.randn(teachers, N, V, generator=draw) * scale,
        labels=torch.randint(0, V, (N,), generator=draw),
        row=torch.zeros(N, dtype=torch.long),
        position=torch.arange(N),
        columns={},
        progress=0.0,
    )


def probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Float64, by the definition."""
    weights = (logits.double() / temperature - logits.double().amax() / temperature).exp()
    return weights / weights.sum()


def kl(p: Tensor, q: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for a, b in zip(p, q, strict=True):
        total = total + a * (a / b).log()
    return total


def jsd_terms(teacher: Tensor, student: Tensor, beta: float) -> list[Tensor]:
    """What each entry adds: the formula of GKD's and OPSD's trainers."""
    found = []
    for t, s in zip(teacher, student, strict=True):
        m = beta * t + (1 - beta) * s
        ends = {0.0: t * (t / s).log(), 1.0: s * (s / t).log()}
        found.append(ends[beta] if beta in ends else beta * t * (t / m).log() + (1 - beta) * s * (s / m).log())
    return found


def agree(method: Method, live: LiveLogits, naive: Any) -> None:
    """``token_loss`` and its gradient are those of ``naive(student logits, teacher logits, label)``, token by token."""
    got = method.token_loss(live)
    (gradient,) = torch.autograd.grad(got.sum(), live.logits)
    leaf = live.logits.detach().double().requires_grad_()
    wanted = torch.stack([naive(leaf[n], live.teacher_logits[:, n].double(), int(live.labels[n])) for n in range(N)])
    (wanted_gradient,) = torch.autograd.grad(wanted.sum(), leaf)
    assert got.tolist() == pytest.approx(wanted.tolist(), rel=1e-4, abs=1e-6)
    assert torch.allclose(gradient.double(), wanted_gradient, rtol=1e-4, atol=1e-6)
    assert float(wanted_gradient.abs().max()) > 1e-3


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("name", ["kl-anchor", "asft"])
def test_anchored_losses(name: str, direction: str, registry: Registry) -> None:
    def naive(student: Tensor, teachers: Tensor, label: int) -> Tensor:
        p, base = probabilities(student), probabilities(teachers[0])
        weight = float(p[label].detach()) if name == "asft" else 1.0
        anchor = kl(base, p) if direction == "forward" else kl(p, base)
        return -weight * p[label].log() + 0.3 * anchor

    agree(make(registry, name, strength=0.3, direction=direction), live_logits(), naive)


def test_asft_is_the_formula_of_its_authors_code(registry: Registry) -> None:
    """Restated with ``kl_div``, whose first argument is the log of the distribution that is judged."""
    live = live_logits(3)
    nll = F.cross_entropy(live.logits, live.labels, reduction="none")
    weight = live.logits.softmax(-1).gather(1, live.labels[:, None])[:, 0].detach()
    anchor = F.kl_div(live.logits.log_softmax(-1), live.teacher_logits[0].softmax(-1), reduction="none").sum(-1)
    wanted = weight * nll + 0.1 * anchor
    assert torch.allclose(make(registry, "asft").token_loss(live), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("alpha", "k"), [(1.0, 20), (2.0, 5), (0.0, 20), (1.0, 500)])
def test_eaft_weighs_by_the_entropy_of_the_likeliest(alpha: float, k: int, registry: Registry) -> None:
    def naive(student: Tensor, teachers: Tensor, label: int) -> Tensor:
        likeliest = sorted(probabilities(student.detach()).tolist(), reverse=True)[:k]
        shares = [q / sum(likeliest) for q in likeliest]
        entropy = -sum(q * math.log(q) for q in shares) / math.log(len(shares))
        return -(entropy**alpha) * probabilities(student)[label].log()

    agree(make(registry, "eaft", alpha=alpha, top_k=k), live_logits(), naive)


def test_eaft_differs_from_its_authors_code_by_a_constant(registry: Registry) -> None:
    """They divide by 3.0 in place of log 20."""
    live = live_logits(4)
    top = live.logits.detach().topk(20, dim=-1).values
    logs = top - top.logsumexp(-1, keepdim=True)
    wanted = F.cross_entropy(live.logits, live.labels, reduction="none") * (-(logs.exp() * logs).sum(-1) / 3.0)
    assert torch.allclose(make(registry, "eaft").token_loss(live) * math.log(20) / 3.0, wanted, rtol=1e-5)


def test_prift_weighs_by_the_base(registry: Registry) -> None:
    one = scored([math.log(0.5), math.log(0.01), -9.0])
    assert make(registry, "prift").select(one).tolist() == pytest.approx([0.5, 0.01, math.exp(-9.0)], rel=1e-5)
    kept = make(registry, "prift", keep="end").select(one)
    assert kept.tolist() == pytest.approx([0.5, 0.01, 1.0], rel=1e-5)
    assert kept.dtype == np.float32


@pytest.mark.parametrize("mass", [0.3, 0.9, 1.0])
def test_prift_mass_learns_what_lies_in_the_nucleus(mass: float, registry: Registry) -> None:
    masked = []

    def naive(student: Tensor, teachers: Tensor, label: int) -> Tensor:
        base = probabilities(teachers[0]).tolist()
        above = 0.0
        for token in sorted(range(V), key=lambda v: -base[v]):
            if token == label:
                break
            above += base[token]
        masked.append(above >= mass)
        return -probabilities(student)[label].log() * (above < mass)

    live = live_logits()
    live.labels[0] = live.teacher_logits[0, 0].argmax()
    agree(make(registry, "prift-mass", mass=mass), live, naive)
    assert (0 < sum(masked) < N) == (mass < 1.0)


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("name", ["gkd", "sdft-onpolicy", "opsd", "unisd"])
def test_divergences_go_from_teacher_to_model_at_0(name: str, beta: float, registry: Registry) -> None:
    """OPSD's clip acts on each entry of the vocabulary; only the first teacher of ``unisd`` has a say in the loss."""
    temperature = {"gkd": 1.0, "sdft-onpolicy": 0.8, "opsd": 1.1, "unisd": 0.7}[name]
    options: dict[str, object] = {"beta" if name in ("gkd", "opsd") else "alpha": beta}
    if name != "gkd":
        options["temperature"] = temperature

    def naive(student: Tensor, teachers: Tensor, label: int) -> Tensor:
        terms = jsd_terms(probabilities(teachers[0], temperature), probabilities(student, temperature), beta)
        if name == "opsd":
            terms = [term if float(term.detach()) < 0.05 else term.detach() * 0 + 0.05 for term in terms]
        return torch.stack(terms).sum()

    agree(make(registry, name, **options), live_logits(5, teachers=3), naive)


def test_opsd_may_take_the_likeliest_tokens_of_the_teacher_alone(registry: Registry) -> None:
    def naive(student: Tensor, teachers: Tensor, label: int) -> Tensor:
        chosen = sorted(range(V), key=lambda v: -float(teachers[0][v]))[:4]
        return kl(probabilities(teachers[0][chosen]), probabilities(student[chosen]))

    agree(make(registry, "opsd", loss_top_k=4, clip=0.0, temperature=1.0), live_logits(), naive)


def agreement_loss(losses: Tensor, logp: Tensor, rows: list[list[int]], mode: str, gamma: float) -> float:
    """The batch's loss with UniSD's agreement weights, by loops: ``losses`` [N] and ``logp`` [K, N] of tokens."""

    def variance(values: list[float], lost: int) -> float:
        mean = sum(values) / len(values)
        return sum((x - mean) ** 2 for x in values) / (len(values) - lost)

    spreads = [variance(logp[:, n].tolist(), 1) for n in range(logp.shape[1])]
    ordered = sorted(spreads)
    at = 0.95 * (len(ordered) - 1)
    low = math.floor(at)
    q95 = ordered[low] + (at - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])
    total = 0.0
    for row in rows:
        if mode == "token":
            weights = [max(0.01, 1 / (1 + gamma * min(10.0, spreads[n] / max(q95, 1e-6)))) for n in row]
            total += sum(w * float(losses[n]) for w, n in zip(weights, row, strict=True)) / max(1.0, sum(weights))
        else:
            means = [sum(float(one[n]) for n in row) / len(row) for one in logp]
            total += math.exp(-gamma * variance(means, 0)) * sum(float(losses[n]) for n in row) / len(row)
    return total / len(rows)


@pytest.mark.parametrize("mode", ["token", "sequence", "none"])
@pytest.mark.parametrize("gamma", [0.01, 2.0])
def test_unisd_weighs_by_agreement(mode: str, gamma: float, registry: Registry) -> None:
    """The weights as the trainer uses them, with the mean over rows; a row of the batch may have no token at all."""
    rows = [[0, 1, 2, 3, 4], [5, 6], [7, 8]]
    row = torch.tensor([0, 0, 0, 0, 0, 2, 2, 3, 3])
    draw = torch.Generator().manual_seed(8)
    logp = -torch.rand(4, N, generator=draw) * 5
    losses = torch.rand(N, generator=draw)
    live = live_tokens(logp[0], row=row, teacher_logp=logp, position=torch.zeros(N, dtype=torch.long))
    weights = make(registry, "unisd", agreement=mode, gamma=gamma).online_weights(live)
    got = float((row_means(weights, row) * losses).sum()) / len(rows)
    if mode == "none":
        wanted = sum(float(losses[one].mean()) for one in rows) / len(rows)
    else:
        wanted = agreement_loss(losses, logp[1:], rows, mode, gamma)
    assert got == pytest.approx(wanted, rel=1e-5)
    if gamma == 2.0 and mode != "none":
        assert abs(wanted / (sum(float(losses[one].mean()) for one in rows) / len(rows)) - 1) > 1e-3


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_rho_1_takes_the_highest_excess_loss_of_the_batch(share: float, registry: Registry) -> None:
    """By a naive loop: learned is a token that fewer than ``share`` of the batch's tokens exceed."""
    draw = torch.Generator().manual_seed(3)
    logp, reference = -torch.rand(2, N, generator=draw) * 5
    keep = torch.arange(N) == N - 1
    live = live_tokens(logp, keep=keep, columns={"reference_logp": reference})
    weights = make(registry, "rho-1-batch", share=share).online_weights(live)
    excess = [float(-logp[n]) - float(-reference[n]) for n in range(N)]
    for n in range(N):
        above = sum(other > excess[n] for other in excess)
        assert float(weights[n]) == float(above < round(share * N) or bool(keep[n]))
    plain = make(registry, "rho-1-batch", share=share).online_weights(live_tokens(logp))
    assert plain.tolist() == [1.0] * N


class Draws(RolloutContext):
    """A context of one step whose every draw is tokens 1, 2, 3, ... up to the length asked for."""

    progress = 0.0

    def __init__(self, step: int) -> None:
        self.step = step
        self.asked: list[tuple[list[str], int, Sampling]] = []

    def generate(self, examples: Any, *, max_new_tokens: int, sampling: Sampling) -> list[Generation]:
        self.asked.append(([one.example_id for one in examples], max_new_tokens, sampling))
        ids = np.arange(1, max_new_tokens + 1, dtype=np.int32)
        return [Generation(ids, np.zeros(len(ids), dtype=np.float32), "", "length") for _ in examples]


def batch(count: int) -> list[TrainExample]:
    ids = np.array([7, 8], dtype=np.int32)
    return [TrainExample(f"t/{i}", ids, ids, np.ones(2, np.float32), np.zeros(2, np.bool_)) for i in range(count)]


@pytest.mark.parametrize(("share", "size"), [(0.0, 4), (0.3, 5), (0.5, 1), (0.5, 8), (1.0, 3)])
def test_gkd_draws_its_share_of_every_run_of_steps(share: float, size: int, registry: Registry) -> None:
    drawn = 0
    for step in range(20):
        context = Draws(step)
        made = make(registry, "gkd", share=share, new_tokens=5).rollout(batch(size), context)
        assert [one.example_id for one in made] == [f"t/{i}" for i in range(size)]
        assert sorted({len(one.target_ids) for one in made}) in ([2], [5], [2, 5])
        drawn += sum(len(one.target_ids) == 5 for one in made)
        assert all(asked[1:] == (5, Sampling(0.9)) for asked in context.asked)
    assert drawn == pytest.approx(share * size * 20, abs=1)


def test_sdft_leaves_the_first_tokens_out(registry: Registry) -> None:
    method = make(registry, "sdft-onpolicy", new_tokens=5, skip=3, temperature=0.9)
    context = Draws(0)
    made = method.rollout(batch(2), context)
    assert [one.weights.tolist() for one in made] == [[0.0, 0.0, 0.0, 1.0, 1.0]] * 2
    assert context.asked == [(["t/0", "t/1"], 5, Sampling(0.9))]
    opsd = make(registry, "opsd", new_tokens=2).rollout(batch(1), Draws(0))
    assert [one.weights.tolist() for one in opsd] == [[1.0, 1.0]]


class Prompts:
    def rng(self, *key: object) -> np.random.Generator:
        return np.random.default_rng(abs(hash(key)) % 2**32)


EXAMPLES = [Example(f"t/train/{i}", "t", f"What is {i} {{x}}?", f"It is {i}.") for i in range(6)]


@pytest.mark.parametrize("name", ["gkd", "sdft-onpolicy", "opsd"])
def test_the_teacher_sees_the_gold_answer(name: str, registry: Registry) -> None:
    for example, chats in zip(EXAMPLES, make(registry, name).teacher_prompts(EXAMPLES, cast("Any", None)), strict=True):
        ((turn,),) = chats
        assert turn.role == "user"
        assert example.prompt in turn.content
        assert example.reference in turn.content


@pytest.mark.parametrize("count", [1, 2, 6])
def test_teachers_of_unisd_see_other_examples(count: int, registry: Registry) -> None:
    method = make(registry, "unisd", contexts=4, demonstrations=2)
    for example, chats in zip(
        EXAMPLES[:count], method.teacher_prompts(EXAMPLES[:count], cast("Any", Prompts())), strict=True
    ):
        own, *others = [turn.content for (turn,) in chats]
        assert example.reference in own
        assert len(others) == 4
        for text in others:
            assert example.prompt in text
            assert example.reference not in text
            assert sum(other.reference in text for other in EXAMPLES) == min(2, count - 1)
    alone = make(registry, "unisd", agreement="none").teacher_prompts(EXAMPLES, cast("Any", Prompts()))
    assert {len(chats) for chats in alone} == {1}
