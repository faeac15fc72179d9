"""The rules of the shipped methods against slow, literal re-statements of their cards."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.methods.base import build_method
from dasd_bench.methods.context import DualStep, LiveTokens
from dasd_bench.registry import Registry, discover
from dasd_bench.types import Example, Mark, Origin, ScoredTarget, Target, TokenScores


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


def make(registry: Registry, name: str, **options: object):
    return build_method(registry.method(name).item, options)


def module_of(registry: Registry, name: str):
    import sys

    return sys.modules[registry.method(name).item.__module__]


def scored(logp: list[float], top1: list[float] | None = None, *, accepted: bool = True) -> ScoredTarget:
    n = len(logp)
    marks = np.zeros(n, dtype=np.uint8)
    marks[-1] = Mark.END
    marks[0] = Mark.FORMAT
    target = Target(
        "t/train/0",
        np.arange(n, dtype=np.int32),
        np.full(n, Origin.CANDIDATE, dtype=np.uint8),
        marks,
        "text",
        accepted,
        "rewrite",
    )
    values = np.array(logp, dtype=np.float32)
    best = np.array(top1 if top1 is not None else logp, dtype=np.float32)
    scores = TokenScores(values, best, np.zeros(n, dtype=np.float32), np.zeros(n, dtype=np.int32))
    return ScoredTarget(Example("t/train/0", "t", "q", "r"), target, scores)


def naive_rule(rule: str, p_b: list[float], p_r: list[float], *, tau: float, alpha: float) -> tuple[int, int]:
    """One step of one example in plain Python, written from the card: (token, origin)."""
    c = max(range(len(p_r)), key=lambda v: p_r[v])
    b = max(range(len(p_b)), key=lambda v: p_b[v])
    conf = p_b[b]
    if rule == "confidence-gate":
        y = b if conf >= tau else c
    elif rule == "reversed-gate":
        y = c if conf >= tau else b
    elif rule == "candidate-floor":
        y = c if p_b[c] >= tau else b
    elif rule == "relative-floor":
        allowed = [v for v in range(len(p_b)) if p_b[v] >= alpha * conf]
        y = c if p_b[c] >= alpha * conf else max(allowed, key=lambda v: p_r[v])
    else:
        y = c if p_r[c] >= conf else b
    return y, int(Origin.CANDIDATE if y == c else Origin.BASE)


def softmax(logits: list[float]) -> list[float]:
    peak = max(logits)
    weights = [math.exp(x - peak) for x in logits]
    return [w / sum(weights) for w in weights]


LOGITS = st.lists(st.floats(-4, 4), min_size=5, max_size=5, unique=True)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(LOGITS, LOGITS), min_size=1, max_size=4),
    tau=st.floats(0.05, 0.95),
    alpha=st.floats(0.02, 0.9),
    rule=st.sampled_from(["confidence-gate", "reversed-gate", "candidate-floor", "relative-floor", "reference-sure"]),
)
def test_rules_match_the_card(rows, tau, alpha, rule) -> None:
    dasd = module_of(discover(), "dasd")
    base = torch.log_softmax(torch.tensor([r[0] for r in rows], dtype=torch.float64), -1)
    reference = torch.log_softmax(torch.tensor([r[1] for r in rows], dtype=torch.float64), -1)
    step = DualStep(
        base, reference, base.argmax(-1), reference.argmax(-1), torch.zeros(len(rows)), torch.zeros(len(rows))
    )
    choice = dasd.make_rule(rule, tau=tau, alpha=alpha, rate=0.0, kept=frozenset())(step)
    for i, (p_b, p_r) in enumerate(rows):
        expected = naive_rule(rule, softmax(p_b), softmax(p_r), tau=tau, alpha=alpha)
        assert (int(choice.token[i]), int(choice.origin[i])) == expected


def gate_step(base_best: float, base_id: int, candidate_id: int, uniform: float = 0.5) -> DualStep:
    base = torch.full((1, 4), (1 - base_best) / 3).scatter_(1, torch.tensor([[base_id]]), base_best).log()
    reference = torch.full((1, 4), 0.1).scatter_(1, torch.tensor([[candidate_id]]), 0.7).log()
    return DualStep(
        base, reference, torch.tensor([base_id]), torch.tensor([candidate_id]), torch.tensor([uniform]), torch.zeros(1)
    )


def test_tau_zero_is_pure_base_and_tau_above_one_is_pure_rewrite(registry: Registry) -> None:
    dasd = module_of(registry, "dasd")
    step = gate_step(0.3, base_id=1, candidate_id=2)
    pure_base = dasd.make_rule("confidence-gate", tau=0.0, alpha=0.1, rate=0, kept=frozenset())(step)
    sure = gate_step(1.0 - 1e-7, base_id=1, candidate_id=2)
    rewrite = dasd.make_rule("confidence-gate", tau=1.01, alpha=0.1, rate=0, kept=frozenset())(sure)
    assert (int(pure_base.token), int(pure_base.origin)) == (1, Origin.BASE)
    assert (int(rewrite.token), int(rewrite.origin)) == (2, Origin.CANDIDATE)


def test_kept_candidates_are_never_replaced(registry: Registry) -> None:
    dasd = module_of(registry, "dasd")
    step = gate_step(0.99, base_id=1, candidate_id=2)
    gate = dasd.make_rule("confidence-gate", tau=0.5, alpha=0.1, rate=0, kept=frozenset({2}))
    free = dasd.make_rule("confidence-gate", tau=0.5, alpha=0.1, rate=0, kept=frozenset({3}))
    assert int(gate(step).token) == 2
    assert int(free(step).token) == 1


def test_random_gate_replaces_at_its_rate(registry: Registry) -> None:
    dasd = module_of(registry, "dasd")
    rule = dasd.make_rule("random-gate", tau=0.5, alpha=0.1, rate=0.3, kept=frozenset())
    draws = np.random.default_rng(0).random(2000)
    replaced = sum(int(rule(gate_step(0.4, 1, 2, float(u))).origin) == Origin.BASE for u in draws)
    assert replaced == int((draws.astype(np.float32) < 0.3).sum())


def test_stm_masks_by_base_perplexity_and_keeps_the_end(registry: Registry) -> None:
    item = scored([math.log(1 / 2.4), math.log(1 / 2.6), math.log(0.9), math.log(1e-4)])
    assert make(registry, "low-ppl").select(item).tolist() == [1.0, 0.0, 1.0, 1.0]
    assert make(registry, "low-ppl", keep="none").select(item).tolist() == [1.0, 0.0, 1.0, 0.0]
    strict = make(registry, "low-ppl", tau=1.0)
    assert strict.select(item).tolist() == [0.0, 0.0, 0.0, 1.0]
    both = make(registry, "low-ppl", tau=1.0, keep="end+format")
    assert both.select(item).tolist() == [1.0, 0.0, 0.0, 1.0]


@settings(max_examples=50, deadline=None)
@given(
    p=st.lists(st.floats(0.001, 0.999), min_size=1, max_size=20),
    tau=st.floats(0.0, 1.0),
    direction=st.sampled_from(["higher", "lower", "middle"]),
)
def test_profit_masks_by_the_live_probability(p, tau, direction) -> None:
    method = build_method(discover().method("profit").item, {"tau": tau, "direction": direction, "keep": "none"})
    logp = torch.tensor(p, dtype=torch.float64).log()
    live = LiveTokens(logp, None, torch.ones(len(p)), torch.zeros(len(p), dtype=torch.bool), 0.0)
    seen = logp.exp().tolist()
    naive = {"higher": [q > tau for q in seen], "lower": [q < tau for q in seen]}
    naive["middle"] = [tau <= q <= method.upper for q in seen]
    assert method.online_weights(live).tolist() == [float(x) for x in naive[direction]]


def test_profit_never_masks_kept_tokens_and_divides_by_all(registry: Registry) -> None:
    method = make(registry, "profit")
    live = LiveTokens(torch.log(torch.tensor([0.01, 0.01])), None, torch.ones(2), torch.tensor([False, True]), 0.0)
    assert method.online_weights(live).tolist() == [0.0, 1.0]
    assert method.denominator == "all"


def test_loss_mask_needs_both_a_surprising_token_and_a_sure_base(registry: Registry) -> None:
    method = make(registry, "dasd", rule="loss-mask", tau=0.9, k=2.5, keep="none")
    item = scored(
        [math.log(0.05), math.log(0.05), math.log(0.95), math.log(0.05)],
        [math.log(0.94), math.log(0.5), math.log(0.95), math.log(0.94)],
    )
    assert method.select(item).tolist() == [0.0, 1.0, 1.0, 0.0]
    refused = scored([math.log(0.05)] * 2, [math.log(0.94)] * 2, accepted=False)
    assert method.select(refused).tolist() == [1.0, 1.0]


def test_sft_weighs_every_token_one(registry: Registry) -> None:
    assert make(registry, "sft").select(scored([-9.0, -0.1])).tolist() == [1.0, 1.0]


def test_methods_use_the_public_api_only() -> None:
    for path in sorted((Path(__file__).parents[2] / "methods").glob("*.py")):
        lines = [line for line in path.read_text().splitlines() if "import" in line and "dasd_bench" in line]
        assert all("from dasd_bench.api import" in line for line in lines), path.name


@pytest.mark.parametrize("name", ["dft", "idft"])
@given(logits=st.lists(st.floats(-6, 6), min_size=3, max_size=8), progress=st.floats(0, 1))
def test_dft_and_idft_weigh_as_their_papers_say(
    name: str, logits: list[float], progress: float, registry: Registry
) -> None:
    options = {"beta": 1.5, "warmup": 0.2, "transition": 0.4} if name == "idft" else {}
    method = make(registry, name, **options)
    z = sum(math.exp(x) for x in logits)
    p = [math.exp(x) / z for x in logits]
    entropy = -sum(q * math.log(q) for q in p)
    live = LiveTokens(
        logp=torch.tensor([math.log(q) for q in p]),
        entropy=torch.full((len(p),), entropy),
        static=torch.ones(len(p)),
        keep=torch.zeros(len(p), dtype=torch.bool),
        progress=progress,
    )
    wanted = []
    for q in p:
        power = 1.0
        if name == "idft":
            ramp = 0.0 if progress < 0.2 else min(1.0, (progress - 0.2) / 0.4)
            power = 1 + ramp * (min(2.0, max(0.1, math.exp(-(math.log(q) + entropy) / 1.5))) - 1)
        wanted.append(q**power)
    assert method.online_weights(live).tolist() == pytest.approx(wanted, rel=1e-4)


def test_every_card_names_training_options(registry: Registry) -> None:
    """A card is checked when a run asks for it; here for all shipped methods at once."""
    from dataclasses import replace

    from dasd_bench.config.spec import RunSpec, arms
    from dasd_bench.config.training import TrainingConfig

    names = tuple(sorted(registry.methods))
    spec = RunSpec(methods=names, budget="card")
    trained = {arm.method.name: arm.training for arm in arms(spec, registry)}
    assert trained["sft"] == trained["dasd"] == TrainingConfig()
    assert trained["profit"].lora_rank == trained["dft"].lora_rank == trained["idft"].lora_rank == 0
    assert trained["low-ppl"].dora
    assert (trained["self-distill"].lora_rank, trained["self-distill"].lora_targets) == (8, "q_proj,v_proj")
    small = replace(spec, training=replace(TrainingConfig(), batch_size=4))
    assert {arm.training.batch_size for arm in arms(small, registry)} == {4}
    equal = replace(spec, budget="equal")
    assert {arm.training for arm in arms(equal, registry)} == {TrainingConfig()}
