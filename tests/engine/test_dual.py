"""Dual-context decoding equals a naive loop of two full forward passes per token."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from dasd_bench.engine.engine import Engine
from dasd_bench.engine.markers import Markers
from dasd_bench.engine.requests import DualRequest, EngineSettings
from dasd_bench.engine.sampling import propose
from dasd_bench.methods.context import Choice, Sampling
from dasd_bench.types import Origin
from tests.engine.conftest import KINDS, naive_logp, pair, random_prompts


def gate(tau):
    def rule(step):
        sure = step.base_logp.amax(dim=-1) >= math.log(tau)
        token = torch.where(sure, step.base_token, step.reference_token)
        return Choice(token, torch.where(sure, int(Origin.BASE), int(Origin.CANDIDATE)).to(torch.uint8))

    return rule


def hinted(beta):
    """Hinted Decoding (2602.12222): a mix of both distributions, its weight set by the reference's entropy."""

    def rule(step):
        p, q = step.reference_logp, step.base_logp
        entropy = -(p.exp() * p).sum(-1)
        weight = (beta * entropy / math.log(p.shape[-1])).clamp(0, 1).unsqueeze(1)
        weight = torch.where((step.position == 0).unsqueeze(1), 0.0, weight)
        token = propose((1 - weight) * p + weight * q, Sampling(0.3, top_p=0.95), step.uniform)
        return Choice(token, torch.full_like(token, int(Origin.CANDIDATE), dtype=torch.uint8))

    return rule


def items(count=9, shared=True):
    bases, extras = random_prompts(count, seed=3), random_prompts(count, seed=4)
    return [
        DualRequest(b, (b[:-2] if shared else []) + e, 30, frozenset(range(30)), name=f"item {i}", seed=i)
        for i, (b, e) in enumerate(zip(bases, extras, strict=True))
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [True, False])
def test_gate_equals_the_naive_loop(kind, shared):
    model, tokenizer = pair(kind)
    asked = items(shared=shared)
    tau = 0.05
    results = Engine(model, tokenizer, EngineSettings(max_num_seqs=4)).dual_decode(asked, gate(tau))
    origins = set()
    for request, result in zip(asked[:4], results[:4], strict=True):
        made: list[int] = []
        rows = []
        while True:
            base = naive_logp(model, [*request.base_ids, *made])[-1]
            reference = naive_logp(model, [*request.reference_ids, *made])[-1]
            b, c = int(base.argmax()), int(reference.argmax())
            sure = float(base.max()) >= math.log(tau)
            token = b if sure else c
            entropy = -float((base.exp() * base).sum())
            rows.append((Origin.BASE if sure else Origin.CANDIDATE, base[token], reference[token], entropy, base.max()))
            made.append(token)
            if token in request.stop_ids or len(made) == request.max_new_tokens:
                break
        assert result.token_ids.tolist() == made
        assert result.finish == ("stop" if made[-1] in request.stop_ids else "length")
        origin, *floats = zip(*rows, strict=True)
        assert result.origin.tolist() == list(origin)
        origins |= set(origin)
        found = (result.base_logp, result.reference_logp, result.base_entropy, result.base_top1_logp)
        for got, want in zip(found, floats, strict=True):
            np.testing.assert_allclose(got, [float(x) for x in want], atol=3e-4)
    assert origins == {Origin.BASE, Origin.CANDIDATE}


def test_reference_that_continues_the_base_prompt():
    """The multi-turn rewrite prompt starts with the whole plain prompt."""
    model, tokenizer = pair("llama")
    bases = random_prompts(6, seed=8)
    asked = [DualRequest(b, [*b, 11, 12, 13 + i], 20, frozenset()) for i, b in enumerate(bases)]
    fast = Engine(model, tokenizer).dual_decode(asked, gate(0.5))
    slow = Engine(model, tokenizer, EngineSettings(accelerate="off")).dual_decode(asked, gate(0.5))
    for one, other in zip(fast, slow, strict=True):
        assert one.token_ids.tolist() == other.token_ids.tolist()
        np.testing.assert_allclose(one.reference_logp, other.reference_logp, atol=3e-4)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.8)])
def test_hinted_decoding_is_a_rule_and_does_not_depend_on_order(sampling):
    model, tokenizer = pair("qwen3")
    asked = [DualRequest(r.base_ids, r.reference_ids, 15, frozenset(), sampling, i) for i, r in enumerate(items())]
    one = Engine(model, tokenizer).dual_decode(asked, hinted(0.7))
    two = Engine(model, tokenizer, EngineSettings(max_num_seqs=2)).dual_decode(asked[::-1], hinted(0.7))[::-1]
    assert [r.token_ids.tolist() for r in one] == [r.token_ids.tolist() for r in two]
    assert [r.base_token.tolist() for r in one] == [r.base_token.tolist() for r in two]


def test_equal_contexts_make_both_streams_agree():
    model, tokenizer = pair("gemma3")
    prompts = random_prompts(5, seed=9)
    results = Engine(model, tokenizer).dual_decode([DualRequest(p, p, 12, frozenset()) for p in prompts], gate(0.5))
    for result in results:
        assert result.base_token.tolist() == result.reference_token.tolist()
        np.testing.assert_allclose(result.base_logp, result.reference_logp, atol=1e-4)


def test_a_rule_is_told_which_candidates_to_keep():
    """The end tokens and pieces of the texts asked for, in packed decoding as one by one."""
    model, tokenizer = pair("llama")
    texts = (tokenizer.decode([40]).strip() + tokenizer.decode([41]).strip(), tokenizer.decode([77]).strip())
    asked = [replace(item, keep_ids=frozenset(range(100, 130)), keep_texts=texts) for item in items()]

    def rule(step):
        token = torch.where(step.keep, step.reference_token, step.base_token)
        return Choice(token, torch.full_like(token, int(Origin.BASE), dtype=torch.uint8))

    markers = Markers(tokenizer)
    kept = 0
    for result in Engine(model, tokenizer, EngineSettings(max_num_seqs=4)).dual_decode(asked, rule):
        for place, candidate in enumerate(result.reference_token.tolist()):
            expected = 100 <= candidate < 130 or markers.touched(result.token_ids[:place].tolist(), candidate, texts)
            assert bool(result.keep[place]) == expected
            assert result.token_ids[place] == (candidate if expected else result.base_token[place])
            kept += expected
    assert kept
