"""Statistics of logits, by the compiled kernel and piece by piece, against torch's own over the whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.engine import vocabulary
from dasd_bench.engine.kernels.rows import load_row_kernels
from dasd_bench.engine.vocabulary import Vocabulary

WAYS = [Vocabulary(None), Vocabulary(load_row_kernels(torch.device("cpu"), torch.float32))]


@pytest.mark.parametrize("way", WAYS, ids=["torch", "compiled"])
@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 9), size=st.integers(1, 50), together=st.integers(1, 200), seed=st.integers(0, 99))
def test_statistics_are_those_of_the_whole(way, rows, size, together, seed):
    torch.manual_seed(seed)
    logits = 5 * torch.randn(rows, size)
    chosen = logits.gather(1, torch.randint(size, (rows, 1)))
    entropy = torch.distributions.Categorical(logits=logits.double()).entropy().float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "TOGETHER", together)
        assert torch.equal(vocabulary.ranks(logits, chosen), (logits > chosen).sum(dim=-1))
        normaliser, top = way.likeliest(logits)
        torch.testing.assert_close(normaliser, logits.logsumexp(dim=-1))
        assert torch.equal(top, logits.argmax(dim=-1))
        logp = logits.clone()
        for summary in (way.summary(logits), way.normalise(logp)):
            assert torch.equal(summary.top, top)
            torch.testing.assert_close(summary.normaliser, normaliser)
            torch.testing.assert_close(summary.entropy, entropy, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(logp, logits.log_softmax(dim=-1))


@pytest.mark.parametrize("way", WAYS, ids=["torch", "compiled"])
def test_a_masked_token_has_no_part_in_the_entropy_and_nan_stays(way):
    summary = way.summary(torch.tensor([[0.5, 0.5, 0.0]]).log())
    assert summary.entropy.item() == pytest.approx(0.6931472)
    assert torch.isnan(way.summary(torch.tensor([[0.0, float("nan")]])).normaliser).all()
