"""The gates against literal loops in plain Python, on lists of probabilities, and against recorded features."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dasd_bench import api
from dasd_bench.engine.types import DualStep
from dasd_bench.methods.gates import GateFeatures, StepFeatures, gate_features
from dasd_bench.types import Origin

LOGITS = st.lists(st.integers(-256, 256).map(lambda n: n / 64), min_size=5, max_size=5, unique=True)
"""Far enough apart that rounding cannot make two probabilities equal."""
ROWS = st.lists(st.tuples(LOGITS, LOGITS, st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=4)
"""Logits of base and reference, and two proposals that need not be the likeliest, as under sampling."""

SHARE = st.floats(0.05, 0.95)


def softmax(logits: list[float]) -> list[float]:
    peak = max(logits)
    weights = [math.exp(x - peak) for x in logits]
    return [w / sum(weights) for w in weights]


def naive_entropy(p: list[float]) -> float:
    return -sum(q * math.log(q) for q in p)


def step_of(rows: list[Any], **more: Any) -> DualStep:
    def logp(which: int) -> torch.Tensor:
        return torch.log_softmax(torch.tensor([row[which] for row in rows], dtype=torch.float64), -1)

    none = torch.zeros(len(rows))
    given = {"uniform": none, "position": none, "keep": torch.zeros(len(rows), dtype=torch.bool)} | more
    proposals = [torch.tensor([row[which] for row in rows]) for which in (2, 3)]
    return DualStep(logp(0), logp(1), *proposals, **given)


Naive = Callable[[list[float], list[float], int, int, float], bool]
"""(p_b, p_r, b, c, parameter) to whether b stands in for c, from the review's formulas."""

CASES: dict[str, tuple[Callable[[float], Any], Naive]] = {
    "ungated": (lambda x: api.Ungated(), lambda pb, pr, b, c, x: False),
    "confidence-gate": (api.ConfidenceGate, lambda pb, pr, b, c, x: max(pb) >= x),
    "reversed-gate": (api.ReversedGate, lambda pb, pr, b, c, x: max(pb) < x),
    "as-stated": (lambda x: api.AsStated(x, 2.5), lambda pb, pr, b, c, x: 1 / pb[c] > 2.5 and max(pb) >= x),
    "candidate-floor": (api.CandidateFloor, lambda pb, pr, b, c, x: pb[c] < x),
    "reference-sure": (lambda x: api.ReferenceSure(), lambda pb, pr, b, c, x: max(pr) < max(pb)),
    "insist": (
        lambda x: api.Insist(rho=x, eta=0.3, k=2.5),
        lambda pb, pr, b, c, x: pb[c] < 1 / 2.5 and max(pb) >= 0.3 and pr[c] < x,
    ),
    "tolerated": (
        lambda x: api.Tolerated(tau=0.4, eps=x),
        lambda pb, pr, b, c, x: max(pb) >= 0.4 and pr[b] >= x * max(pr),
    ),
    "typical": (api.Typical, lambda pb, pr, b, c, x: math.log(pb[c]) + naive_entropy(pb) < -x),
    "margin": (api.Margin, lambda pb, pr, b, c, x: sorted(pb)[-1] - sorted(pb)[-2] >= x),
    "entropy": (api.Entropy, lambda pb, pr, b, c, x: 1 - naive_entropy(pb) / math.log(len(pb)) >= x),
}


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=30, deadline=None)
@given(rows=ROWS, x=SHARE)
def test_a_gate_is_its_formula(name: str, rows: list[Any], x: float) -> None:
    make, replaced = CASES[name]
    choice = make(x)(step_of(rows))
    for i, (base, reference, b, c) in enumerate(rows):
        refused = b != c and replaced(softmax(base), softmax(reference), b, c, x)
        assert int(choice.token[i]) == (b if refused else c)
        assert int(choice.origin[i]) == (Origin.BASE if refused else Origin.CANDIDATE)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=30, deadline=None)
@given(rows=ROWS, x=SHARE)
def test_recorded_features_give_the_same_decision(name: str, rows: list[Any], x: float) -> None:
    """Saved as arrays and read again: what an analysis after the fact does."""
    rule = CASES[name][0](x)
    assert isinstance(rule, api.GateRule)
    step = step_of(rows)
    recorded = GateFeatures.of(
        gate_features(step.base_logp, step.reference_logp, step.reference_token, step.base_token).arrays()
    )
    refused = ~np.asarray(rule.take(recorded)) & (recorded.own != recorded.candidate)
    assert refused.tolist() == (rule(step).origin == int(Origin.BASE)).tolist()


@settings(max_examples=20, deadline=None)
@given(rows=ROWS)
def test_features_by_hand(rows: list[Any]) -> None:
    step = step_of(rows)
    found = gate_features(step.base_logp, step.reference_logp, step.reference_token, step.base_token)
    for i, (base, reference, b, c) in enumerate(rows):
        pb, pr = softmax(base), softmax(reference)
        wanted = {
            "candidate": c,
            "own": b,
            "conf": max(pb),
            "conf_ref": max(pr),
            "p_base_candidate": pb[c],
            "p_base_own": pb[b],
            "p_ref_candidate": pr[c],
            "p_ref_own": pr[b],
            "logp_base_candidate": math.log(pb[c]),
            "logp_ref_candidate": math.log(pr[c]),
            "log_ratio": math.log(pr[c] / pb[c]),
            "entropy_base": naive_entropy(pb),
            "entropy_ref": naive_entropy(pr),
            "certainty": 1 - naive_entropy(pb) / math.log(5),
            "margin_base": sorted(pb)[-1] - sorted(pb)[-2],
            "margin_ref": sorted(pr)[-1] - sorted(pr)[-2],
            "rank_base_candidate": sum(p > pb[c] for p in pb),
            "rank_ref_own": sum(p > pr[b] for p in pr),
        }
        assert {name: float(values[i]) for name, values in found.arrays().items()} == pytest.approx(wanted, abs=1e-9)


def test_features_are_float32_as_the_streams_are() -> None:
    logp = torch.log_softmax(torch.randn(3, 7), -1)
    found = gate_features(logp, logp, torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])).arrays()
    whole = {"candidate", "own", "rank_base_candidate", "rank_ref_own"}
    assert {name: values.dtype for name, values in found.items()} == {
        name: np.dtype(np.int64 if name in whole else np.float32) for name in found
    }


def test_a_token_of_probability_zero_adds_no_entropy() -> None:
    logp = torch.tensor([[0.0, float("-inf")], [math.log(0.5), math.log(0.5)]])
    features = StepFeatures(logp, logp, torch.tensor([0, 0]), torch.tensor([0, 1]))
    assert features.entropy_base.tolist() == pytest.approx([0.0, math.log(2)])
    assert features.certainty.tolist() == pytest.approx([1.0, 0.0])


@settings(max_examples=30, deadline=None)
@given(rows=ROWS, alpha=st.floats(0.02, 0.9))
def test_relative_floor_takes_the_best_allowed_token(rows: list[Any], alpha: float) -> None:
    choice = api.RelativeFloor(alpha)(step_of(rows))
    for i, (base, reference, _, c) in enumerate(rows):
        pb, pr = softmax(base), softmax(reference)
        allowed = [v for v in range(5) if pb[v] >= alpha * max(pb)]
        assert int(choice.token[i]) == (c if c in allowed else max(allowed, key=lambda v: pr[v]))


@settings(max_examples=30, deadline=None)
@given(rows=ROWS, beta=st.floats(0, 3))
def test_mix_is_the_argmax_of_the_mixture(rows: list[Any], beta: float) -> None:
    choice = api.Mix(beta)(step_of(rows))
    for i, (base, reference, _, c) in enumerate(rows):
        pb, pr = softmax(base), softmax(reference)
        weight = min(1.0, beta * naive_entropy(pr) / math.log(5))
        mixed = [(1 - weight) * math.log(r) + weight * math.log(b) for b, r in zip(pb, pr, strict=True)]
        best = sorted(mixed)
        assume(best[-1] - best[-2] > 1e-9)
        token = max(range(5), key=lambda v: mixed[v])
        assert int(choice.token[i]) == token
        assert int(choice.origin[i]) == (Origin.CANDIDATE if token == c else Origin.BASE)


@settings(max_examples=20, deadline=None)
@given(rows=ROWS, thresholds=st.lists(SHARE, min_size=4, max_size=4))
def test_quantile_compares_with_the_threshold_of_its_example(rows: list[Any], thresholds: list[float]) -> None:
    own = torch.tensor(thresholds[: len(rows)], dtype=torch.float64)[:, None]
    choice = api.Quantile()(step_of(rows, parameters=own))
    for i, (base, _, b, c) in enumerate(rows):
        assert int(choice.token[i]) == (b if max(softmax(base)) >= thresholds[i] else c)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), m=st.integers(1, 20), more=st.integers(0, 5), data=st.data())
def test_shuffled_gate_replaces_exactly_as_often(seed: int, m: int, more: int, data: Any) -> None:
    n = data.draw(st.integers(0, m))
    rng = np.random.default_rng(seed)
    replaced = 0
    for disagreed in range(m + more):
        step = step_of(
            [([1.0, 0.0], [0.0, 1.0], 0, 1)],
            uniform=torch.tensor([rng.random()], dtype=torch.float32),
            parameters=torch.tensor([[float(n), float(m)]]),
            disagreed=torch.tensor([disagreed]),
            replaced=torch.tensor([replaced]),
        )
        replaced += int(api.ShuffledGate()(step).token[0] == 0)
    assert replaced == n


def test_shuffled_gate_prefers_no_place() -> None:
    """Two of five, 4,000 times: every place within five standard errors of .4."""
    rng = np.random.default_rng(0)
    counts, replaced = np.zeros(5), torch.zeros(4000, dtype=torch.int64)
    for place in range(5):
        step = step_of(
            [([1.0, 0.0], [0.0, 1.0], 0, 1)] * 4000,
            uniform=torch.tensor(rng.random(4000), dtype=torch.float32),
            parameters=torch.tensor([[2.0, 5.0]] * 4000),
            disagreed=torch.full((4000,), place),
            replaced=replaced,
        )
        refused = api.ShuffledGate()(step).token == 0
        replaced = replaced + refused
        counts[place] = float(refused.float().mean())
    assert replaced.tolist() == [2] * 4000
    assert np.abs(counts - 0.4).max() < 5 * math.sqrt(0.24 / 4000)


WORDS = ["So", " the", " 12", " +", " Anna", " apples", ".", "\n", " Then", " n_items"]


@pytest.mark.parametrize("replace_logic", [False, True])
def test_class_oracles_split_the_disagreements(replace_logic: bool) -> None:
    def decode(ids: Any) -> str:
        return "".join(WORDS[i] for i in ids)

    #         own, candidate, the tokens before, whether one of the two carries logic
    cases = [
        (1, 5, (0,), False),
        (2, 1, (0,), True),
        (1, 3, (0,), True),
        (4, 5, (0, 1), True),
        (8, 1, (5, 6), False),
        (9, 1, (0,), True),
        (0, 1, (), False),
    ]
    rows = [([0.0] * 10, [0.0] * 10, own, candidate) for own, candidate, _, _ in cases]
    step = step_of(rows, tokens=[before for _, _, before, _ in cases], decode=decode)
    replaced = (api.ClassOracle(replace_logic)(step).origin == int(Origin.BASE)).tolist()
    assert replaced == [logic is replace_logic for *_, logic in cases]


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.tuples(LOGITS, LOGITS), min_size=1, max_size=4), tau=st.floats(0.6, 0.99))
def test_as_stated_is_the_confidence_gate_when_nothing_is_sampled(rows: list[Any], tau: float) -> None:
    greedy = [(b, r, max(range(5), key=lambda v: b[v]), max(range(5), key=lambda v: r[v])) for b, r in rows]
    step = step_of(greedy)
    assert api.AsStated(tau, 2.5)(step).token.tolist() == api.ConfidenceGate(tau)(step).token.tolist()


def test_as_stated_keeps_likely_candidates_under_sampling() -> None:
    """The base's own draw is its second token: the candidate is what it likes best, so nothing is to be replaced."""
    step = step_of([([4.0, 0.0, 0.0], [4.0, 0.0, 0.0], 1, 0)])
    assert api.AsStated(0.9, 2.5)(step).token.tolist() == [0]
    assert api.ConfidenceGate(0.9)(step).token.tolist() == [1]
