"""One pass for many rules gives each rule the tokens that it gets alone, and computes fewer."""

from __future__ import annotations

import copy
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from dasd_bench import api
from dasd_bench.engine.engine import Engine
from dasd_bench.engine.errors import EngineError
from dasd_bench.engine.requests import DualRequest, EngineSettings
from tests.engine.conftest import KINDS, pair, random_prompts

RULES = [
    api.Ungated(),
    api.ConfidenceGate(0.05),
    api.Margin(0.02),
    api.Mix(1.0),
    api.RelativeFloor(0.5),
    api.Typical(0.5),
]


def items(count: int = 7) -> list[DualRequest]:
    bases, extras = random_prompts(count, seed=3), random_prompts(count, seed=4)
    return [
        DualRequest(b, b[:-2] + e, 20, frozenset(range(30)), name=f"item {i}", seed=i, keep_ids=frozenset(range(30)))
        for i, (b, e) in enumerate(zip(bases, extras, strict=True))
    ]


def same(one: api.DualGeneration, other: api.DualGeneration) -> None:
    for f in fields(one):
        a, b = getattr(one, f.name), getattr(other, f.name)
        if isinstance(a, np.ndarray) and a.dtype == np.float32:
            assert np.allclose(a, b, atol=1e-4), f.name
        else:
            assert np.array_equal(a, b), f.name


@pytest.mark.parametrize("kind", KINDS)
def test_each_rule_gets_its_own_tokens(kind: str) -> None:
    model, tokenizer = pair(kind)
    engine = Engine(model, tokenizer, EngineSettings(max_num_seqs=4))
    asked = items()
    many, cost = engine.dual_decode_many([asked] * len(RULES), RULES)
    assert len({tuple(made[0].token_ids) for made in many}) > 1, "the rules should part somewhere"
    alone = [engine.dual_decode(asked, rule) for rule in RULES]
    for together, single in zip(many, alone, strict=True):
        for one, other in zip(together, single, strict=True):
            same(one, other)
    contexts = sum(len(r.base_ids) + len(r.reference_ids) for r in asked)
    assert cost.prompts == contexts
    assert cost.alone == sum(contexts + sum(2 * (len(one.token_ids) - 1) for one in made) for made in alone)
    assert 0 < cost.tokens < cost.alone
    assert cost.forks > 0


@pytest.mark.parametrize(
    "settings", [EngineSettings(max_num_seqs=2, accelerate="off"), EngineSettings(fixed_shapes="on")]
)
def test_forks_on_every_path(settings: EngineSettings) -> None:
    model, tokenizer = pair(KINDS[0])
    engine = Engine(model, tokenizer, settings)
    asked = items(3)
    many, _ = engine.dual_decode_many([asked] * len(RULES), RULES)
    for rule, made in zip(RULES, many, strict=True):
        for one, other in zip(made, engine.dual_decode(asked, rule), strict=True):
            same(one, other)


def test_forks_without_room_are_computed_again() -> None:
    """Memory for two rows of an item: a fork waits, and its tokens so far become part of its prompt."""
    model, tokenizer = pair(KINDS[0])
    asked = items(4)
    roomy = Engine(model, tokenizer)
    longest = max(len(r.reference_ids) + r.max_new_tokens for r in asked)
    tight = replace(roomy.settings, memory_gib=2.5 * 2 * longest * roomy._runner.token_bytes / 2**30)
    many, cost = Engine(model, tokenizer, tight).dual_decode_many([asked] * len(RULES), RULES)
    assert cost.repeated > 0
    for rule, made in zip(RULES, many, strict=True):
        for one, other in zip(made, roomy.dual_decode(asked, rule), strict=True):
            same(one, other)


def test_rules_may_bring_parameters_of_their_own_and_nothing_else() -> None:
    model, tokenizer = pair(KINDS[0])
    engine = Engine(model, tokenizer)
    asked = items(3)
    by_rule = [asked, *([replace(r, parameters=(tau,)) for r in asked] for tau in (0.02, 0.05))]
    rules = [api.ConfidenceGate(0.05), api.Quantile(), api.Quantile()]
    many, _ = engine.dual_decode_many(by_rule, rules)
    assert [one.token_ids.tolist() for one in many[0]] == [one.token_ids.tolist() for one in many[2]]
    alone = engine.dual_decode(by_rule[1], rules[1])
    assert [one.token_ids.tolist() for one in many[1]] == [one.token_ids.tolist() for one in alone]
    with pytest.raises(EngineError, match="differ in parameters alone"):
        engine.dual_decode_many([asked, [replace(r, seed=9) for r in asked]], rules[:2])
    assert engine.dual_decode_many([[], []], rules[:2])[0] == [[], []]


def test_two_models_equal_two_streams_of_their_own() -> None:
    """Always the candidate: the other model's greedy decoding; always the base's token: this one's."""
    base, tokenizer = pair(KINDS[0])
    other = copy.deepcopy(base)
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in other.parameters():
            weights += 0.3 * weights.std() * torch.randn_like(weights)
    engine, reference = Engine(base, tokenizer, EngineSettings(max_num_seqs=2)), Engine(other, tokenizer)
    asked = [replace(r, keep_ids=frozenset()) for r in items(5)]
    free = engine.dual_decode(asked, api.Ungated(), reference=reference)
    bound = engine.dual_decode(asked, api.ConfidenceGate(0.0), reference=reference)
    for made, on, prompts in ((free, reference, "reference_ids"), (bound, engine, "base_ids")):
        plain = on.generate([api_request(r, getattr(r, prompts)) for r in asked])
        assert [one.token_ids.tolist() for one in made] == [one.token_ids.tolist() for one in plain]
    (many, bound_too), _ = engine.dual_decode_many(
        [asked] * 2, [api.Ungated(), api.ConfidenceGate(0.0)], reference=reference
    )
    for together, single in ((many, free), (bound_too, bound)):
        for one, two in zip(together, single, strict=True):
            same(one, two)


def api_request(request: DualRequest, ids):
    from dasd_bench.engine.requests import GenerateRequest

    return GenerateRequest(ids, request.max_new_tokens, request.stop_ids)
