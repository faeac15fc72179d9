"""Decoding in blocks gives what token-by-token decoding gives, for any block length, greedy or sampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.engine.blocks import Draft, block_decode
from dasd_bench.engine.engine import Engine
from dasd_bench.engine.requests import DualRequest, EngineSettings
from dasd_bench.methods.context import Sampling
from tests.engine.conftest import naive_logp, pair
from tests.engine.test_dual import gate, hinted, items


class NaiveStreams:
    """Plain forward passes of the whole sequence; counts the tokens that were checked."""

    def __init__(self, model):
        self.model = model
        self.checked = 0

    def draft(self, contexts, counts, stop):
        drafts = []
        for context, count in zip(contexts, counts, strict=True):
            tokens, rows = [], []
            while len(tokens) < count and not (tokens and tokens[-1] in stop):
                rows.append(naive_logp(self.model, [*context, *tokens])[-1])
                tokens.append(int(rows[-1].argmax()))
            drafts.append(Draft(tokens, rows))
        return drafts

    def verify(self, contexts, drafts):
        self.checked += sum(map(len, drafts))
        return [
            naive_logp(self.model, [*context, *draft])[len(context) - 1 : -1]
            for context, draft in zip(contexts, drafts, strict=True)
        ]


def same(asked, rule, block):
    model, tokenizer = pair("llama")
    expected = Engine(model, tokenizer, EngineSettings(max_num_seqs=4)).dual_decode(asked, rule)
    seen = []
    found = block_decode(
        asked,
        rule,
        NaiveStreams(model),
        tokenizer,
        block=block,
        context_length=None,
        on_result=lambda number, _: seen.append(number),
    )
    assert sorted(seen) == list(range(len(asked)))
    for one, two in zip(expected, found, strict=True):
        assert one.token_ids.tolist() == two.token_ids.tolist()
        assert one.origin.tolist() == two.origin.tolist()
        assert (one.text, one.finish) == (two.text, two.finish)
        for name in ("base_logp", "reference_logp", "base_entropy", "base_top1_logp"):
            np.testing.assert_allclose(getattr(one, name), getattr(two, name), atol=3e-4)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 40), st.sampled_from([0.02, 0.05, 0.5, 1.0]))
def test_gate_for_any_block_length(block, tau):
    same(items(4), gate(tau), block)


@pytest.mark.parametrize("rule", [gate(0.05), hinted(0.5)])
def test_sampled_proposals_draw_at_their_own_position(rule):
    asked = [
        DualRequest(r.base_ids, r.reference_ids, 12, r.stop_ids, Sampling(0.8, top_p=0.9), seed=i)
        for i, r in enumerate(items(3))
    ]
    same(asked, rule, 5)


def test_a_draft_that_agrees_is_followed_to_its_end():
    """With a gate that always takes the candidate every drafted token is used, so none is checked twice."""
    model, tokenizer = pair("llama")
    streams = NaiveStreams(model)
    results = block_decode(items(3), gate(1.1), streams, tokenizer, block=8, context_length=None)
    assert streams.checked == sum(len(r.token_ids) for r in results)
    assert torch.tensor([int(r.origin.min()) for r in results]).unique().numel() == 1


def test_the_context_ends_a_sequence():
    model, tokenizer = pair("llama")
    asked = [DualRequest(list(range(40, 60)), list(range(40, 65)), 50, frozenset())]
    (result,) = block_decode(asked, gate(0.05), NaiveStreams(model), tokenizer, block=4, context_length=30)
    assert len(result.token_ids) == 5
    assert result.finish == "length"
