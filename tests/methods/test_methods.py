"""The rules of the shipped methods against slow, literal re-statements of their cards."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.api import ConfidenceGate, RandomGate, gate_rule, replacement_rate
from dasd_bench.errors import UsageError
from dasd_bench.methods.base import build_method
from dasd_bench.methods.context import DualGeneration, DualStep, Sampling
from dasd_bench.registry import Registry, discover
from dasd_bench.types import Example, Mark, Origin, ScoredTarget, Target, TokenScores
from tests.training.helpers import live_tokens


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


def make(registry: Registry, name: str, **options: object):
    return build_method(registry.method(name).item, options)


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


NO_KEEP = torch.zeros(1, dtype=torch.bool)

LOGITS = st.lists(st.floats(-4, 4), min_size=5, max_size=5, unique=True)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(LOGITS, LOGITS), min_size=1, max_size=4),
    tau=st.floats(0.05, 0.95),
    alpha=st.floats(0.02, 0.9),
    rule=st.sampled_from(["confidence-gate", "reversed-gate", "candidate-floor", "relative-floor", "reference-sure"]),
)
def test_rules_match_the_card(rows, tau, alpha, rule) -> None:
    base = torch.log_softmax(torch.tensor([r[0] for r in rows], dtype=torch.float64), -1)
    reference = torch.log_softmax(torch.tensor([r[1] for r in rows], dtype=torch.float64), -1)
    step = DualStep(
        base,
        reference,
        base.argmax(-1),
        reference.argmax(-1),
        *(torch.zeros(len(rows)),) * 2,
        NO_KEEP.expand(len(rows)),
    )
    choice = gate_rule(rule, {"tau": tau, "alpha": alpha})(step)
    for i, (p_b, p_r) in enumerate(rows):
        expected = naive_rule(rule, softmax(p_b), softmax(p_r), tau=tau, alpha=alpha)
        assert (int(choice.token[i]), int(choice.origin[i])) == expected


def gate_step(base_best: float, base_id: int, candidate_id: int, uniform: float = 0.5, keep: bool = False) -> DualStep:
    base = torch.full((1, 4), (1 - base_best) / 3).scatter_(1, torch.tensor([[base_id]]), base_best).log()
    reference = torch.full((1, 4), 0.1).scatter_(1, torch.tensor([[candidate_id]]), 0.7).log()
    return DualStep(
        base,
        reference,
        torch.tensor([base_id]),
        torch.tensor([candidate_id]),
        torch.tensor([uniform]),
        torch.zeros(1),
        torch.tensor([keep]),
    )


def test_tau_zero_is_pure_base_and_tau_above_one_is_pure_rewrite() -> None:
    step = gate_step(0.3, base_id=1, candidate_id=2)
    pure_base = ConfidenceGate(0.0)(step)
    sure = gate_step(1.0 - 1e-7, base_id=1, candidate_id=2)
    rewrite = ConfidenceGate(1.01)(sure)
    assert (int(pure_base.token), int(pure_base.origin)) == (1, Origin.BASE)
    assert (int(rewrite.token), int(rewrite.origin)) == (2, Origin.CANDIDATE)


def test_kept_candidates_are_never_replaced() -> None:
    gate = ConfidenceGate(0.5)
    assert int(gate(gate_step(0.99, base_id=1, candidate_id=2, keep=True)).token) == 2
    assert int(gate(gate_step(0.99, base_id=1, candidate_id=2)).token) == 1


def test_random_gate_replaces_at_its_rate() -> None:
    rule = RandomGate(0.3)
    draws = np.random.default_rng(0).random(2000)
    replaced = sum(int(rule(gate_step(0.4, 1, 2, float(u))).origin) == Origin.BASE for u in draws)
    assert replaced == int((draws.astype(np.float32) < 0.3).sum())


def decoded(base: list[int], candidate: list[int], keep: list[int], replaced: list[int]) -> DualGeneration:
    """A dual decoding of which only the proposals, what was kept and the origins matter."""
    none = np.zeros(len(base), dtype=np.float32)
    origin = np.where(np.array(replaced) == 1, int(Origin.BASE), int(Origin.CANDIDATE)).astype(np.uint8)
    ids = np.where(origin == int(Origin.BASE), base, candidate).astype(np.int32)
    proposals = np.array(base, dtype=np.int32), np.array(candidate, dtype=np.int32)
    return DualGeneration(
        ids, origin, none, none, none, none, *proposals, np.array(keep, dtype=np.uint8), "text", "stop"
    )


def test_the_replacement_rate_counts_the_steps_where_a_gate_has_a_say() -> None:
    """Four disagreements, of which one is protected: two of three, not two of four."""
    rate = replacement_rate
    one = decoded([1, 2, 3, 4], [1, 9, 9, 9], [0, 0, 1, 0], [0, 1, 0, 0])
    two = decoded([5], [9], [0], [1])
    assert rate([one, two]) == pytest.approx(2 / 3)
    assert rate([decoded([1], [1], [0], [0])]) == 0.0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), gate_tau=st.floats(0.3, 0.9))
def test_random_gate_replaces_as_often_as_the_gate_it_is_matched_to(seed: int, gate_tau: float) -> None:
    """Over steps with protected candidates: expected replacements are equal, by a count of our own."""
    rng = np.random.default_rng(seed)
    n = 4000
    sharp = torch.tensor(rng.normal(0, 2.0, (n, 6)), dtype=torch.float32)
    base = torch.log_softmax(sharp, -1)
    reference = torch.log_softmax(torch.tensor(rng.normal(0, 2.0, (n, 6)), dtype=torch.float32), -1)
    b, c = base.argmax(-1), reference.argmax(-1)
    keep, uniform = torch.tensor(rng.random(n) < 0.2), torch.tensor(rng.random(n), dtype=torch.float32)
    step = DualStep(base, reference, b, c, uniform, torch.zeros(n), keep)
    gate = ConfidenceGate(gate_tau)(step)
    replaced = (gate.origin == int(Origin.BASE)).int().tolist()
    rate = replacement_rate([decoded(b.tolist(), c.tolist(), keep.int().tolist(), replaced)])
    shuffled = RandomGate(rate)(step)
    by_gate = int((gate.token != c).sum())
    by_chance = int((shuffled.token != c).sum())
    free = int(((b != c) & ~keep).sum())
    assert abs(by_gate - by_chance) <= 5 * math.sqrt(max(1.0, free * rate * (1 - rate)))


def test_candidate_floor_has_its_own_default_and_refuses_what_only_gives_the_base(registry: Registry) -> None:
    assert make(registry, "dasd").tau == 0.9
    assert make(registry, "dasd", rule="candidate-floor").tau == 0.4
    assert make(registry, "dasd", rule="candidate-floor", tau=0.49).tau == 0.49
    for tau in (0.5, 0.9, 2.0):
        with pytest.raises(UsageError, match=r"^dasd: tau=.* only ever takes the base's own token"):
            make(registry, "dasd", rule="candidate-floor", tau=tau)
    with pytest.raises(UsageError, match="out of range"):
        make(registry, "dasd", tau=-1)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.tuples(LOGITS, LOGITS), min_size=1, max_size=4), tau=st.floats(0.501, 1.0))
def test_a_floor_of_a_half_is_the_base_itself(rows, tau) -> None:
    """The reason for the refusal, by the rule's own formula."""
    for logits_b, logits_r in rows:
        p_b, p_r = softmax(logits_b), softmax(logits_r)
        token, _ = naive_rule("candidate-floor", p_b, p_r, tau=tau, alpha=0.1)
        assert token == max(range(5), key=lambda v: p_b[v])


def test_dasd_samples_with_its_truncation(registry: Registry) -> None:
    method = make(registry, "dasd", temperature=0.95, top_p=0.7, top_k=50)
    assert method.sampling == Sampling(0.95, 0.7, 50)
    assert method.stochastic()


def test_profit_random_masks_a_share_of_tau_whatever_the_probability(registry: Registry) -> None:
    method = make(registry, "profit", direction="random", tau=0.3, keep="none")
    n = 20_000
    logp = torch.linspace(-9, 0, n)
    torch.manual_seed(0)
    weights = method.online_weights(live_tokens(logp))
    assert set(weights.tolist()) == {0.0, 1.0}
    for part in weights.split(n // 4):
        assert abs(float(part.mean()) - 0.7) < 5 * math.sqrt(0.21 / (n // 4))


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
    live = live_tokens(logp)
    seen = logp.exp().tolist()
    naive = {"higher": [q > tau for q in seen], "lower": [q < tau for q in seen]}
    naive["middle"] = [tau <= q <= method.upper for q in seen]
    assert method.online_weights(live).tolist() == [float(x) for x in naive[direction]]


def test_profit_never_masks_kept_tokens_and_divides_by_all(registry: Registry) -> None:
    method = make(registry, "profit")
    live = live_tokens(torch.log(torch.tensor([0.01, 0.01])), keep=torch.tensor([False, True]))
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
    live = live_tokens(torch.tensor([math.log(q) for q in p]), torch.full((len(p),), entropy), progress=progress)
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
    assert (trained["dft"].warmup, trained["dft"].weight_decay, trained["dft"].adam_beta2) == (0.1, 0.01, 0.95)
    assert (trained["idft"].warmup, trained["idft"].weight_decay, trained["idft"].adam_beta2) == (0.1, 0.01, 0.95)
    assert trained["low-ppl"].dora
    assert (trained["low-ppl"].warmup_steps(1000), trained["low-ppl"].warmup_steps(7)) == (20, 7)
    assert trained["low-ppl"].max_length == 512
    assert (trained["self-distill"].lora_rank, trained["self-distill"].lora_targets) == (8, "q_proj,v_proj")
    small = replace(spec, training=replace(TrainingConfig(), batch_size=4))
    assert {arm.training.batch_size for arm in arms(small, registry)} == {4}
    equal = replace(spec, budget="equal")
    assert {arm.training for arm in arms(equal, registry)} == {TrainingConfig()}
