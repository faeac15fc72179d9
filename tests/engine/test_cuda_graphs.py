"""Decoding in fixed shapes (what CUDA graphs replay) gives what the packed path gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dasd_bench.engine.cuda_graphs import key_shape, row_shape
from dasd_bench.engine.engine import Engine
from dasd_bench.engine.requests import EngineSettings, GenerateRequest
from tests.engine.conftest import DEVICE, KINDS, pair, random_prompts
from tests.engine.test_dual import gate, items


def engines(kind, max_num_seqs):
    model, tokenizer = pair(kind)
    return (
        Engine(model, tokenizer, EngineSettings(max_num_seqs=max_num_seqs, fixed_shapes=fixed))
        for fixed in ("off", "on")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_generate_is_the_same_with_refill(kind):
    prompts = random_prompts(23, low=3, high=90)
    # More rows than max_num_seqs, unlike budgets: rows are dropped, moved and filled again while shapes change.
    asked = [GenerateRequest(p, 5 + 3 * (i % 9), frozenset(range(12)), name=str(i)) for i, p in enumerate(prompts)]
    packed, fixed = engines(kind, max_num_seqs=6)
    expected, found = packed.generate(asked), fixed.generate(asked)
    assert fixed.describe()["decode"].startswith("fixed shapes")
    for one, two in zip(expected, found, strict=True):
        assert one.token_ids.tolist() == two.token_ids.tolist()
        assert one.finish == two.finish
        np.testing.assert_allclose(one.logp, two.logp, atol=3e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_dual_decode_is_the_same(kind):
    packed, fixed = engines(kind, max_num_seqs=4)
    for one, two in zip(packed.dual_decode(items(), gate(0.05)), fixed.dual_decode(items(), gate(0.05)), strict=True):
        assert one.token_ids.tolist() == two.token_ids.tolist()
        assert one.origin.tolist() == two.origin.tolist()
        np.testing.assert_allclose(one.reference_logp, two.reference_logp, atol=3e-4)


def test_rows_are_kept_between_calls_and_grow():
    _, fixed = engines("llama", max_num_seqs=4)
    short = [GenerateRequest([20, 30, 40], 4, frozenset())]
    long = [GenerateRequest(list(range(10, 210)), 80, frozenset())] * 3
    first = fixed.generate(short)
    held = fixed._fixed.bytes
    fixed.generate(long)
    assert fixed._fixed.bytes > held
    grown = fixed._fixed.bytes
    again = fixed.generate(short)
    assert fixed._fixed.bytes == grown
    assert again[0].token_ids.tolist() == first[0].token_ids.tolist()


@given(st.integers(1, 5000))
def test_shapes_hold_what_is_asked_and_stay_few(count):
    assert count <= row_shape(count) <= max(2 * count, 256)
    assert count <= key_shape(count) <= count + 1023
    assert row_shape(row_shape(count)) == row_shape(count)


@pytest.mark.skipif(DEVICE != "cuda", reason="CUDA graphs need a GPU; set DASD_TEST_DEVICE=cuda")
def test_cuda_replays_graphs():
    model, tokenizer = pair("llama")
    engine = Engine(model, tokenizer)
    engine.generate([GenerateRequest([20, 30, 40], 8, frozenset())])
    assert engine.describe()["decode"] == "fixed shapes, cuda graphs"
    shapes = engine._fixed._steps._shapes.values()
    assert shapes
    assert all(isinstance(shape.graph, torch.cuda.CUDAGraph) for shape in shapes)
