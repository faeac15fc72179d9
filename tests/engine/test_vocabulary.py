"""Statistics of logits, piece by piece, against torch's own over the whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.engine import vocabulary


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 9), size=st.integers(1, 50), together=st.integers(1, 200), seed=st.integers(0, 99))
def test_pieces_give_what_the_whole_gives(rows, size, together, seed):
    torch.manual_seed(seed)
    logits = 5 * torch.randn(rows, size)
    chosen = logits.gather(1, torch.randint(size, (rows, 1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "TOGETHER", together)
        assert torch.equal(vocabulary.ranks(logits, chosen), (logits > chosen).sum(dim=-1))
        torch.testing.assert_close(vocabulary.logsumexp(logits), logits.logsumexp(dim=-1))
        logp = logits.clone()
        torch.testing.assert_close(vocabulary.normalise(logp), logits.logsumexp(dim=-1))
        torch.testing.assert_close(logp, logits.log_softmax(dim=-1))
        wanted = torch.distributions.Categorical(logits=logits.double()).entropy().float()
        torch.testing.assert_close(vocabulary.entropy(logp), wanted, atol=1e-5, rtol=1e-4)


def test_a_masked_token_has_no_part_in_the_entropy_and_nan_stays():
    logp = torch.tensor([[0.5, 0.5, 0.0]]).log()
    assert vocabulary.entropy(logp).item() == pytest.approx(0.6931472)
    assert torch.isnan(vocabulary.logsumexp(torch.tensor([[0.0, float("nan")]]))).all()
