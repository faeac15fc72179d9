"""Jensen-Shannon divergence against scipy's, and of two models against both models' own logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from dasd_bench.engine.divergence import jensen_shannon
from dasd_bench.engine.engine import Engine
from dasd_bench.engine.head import OutputHead
from dasd_bench.engine.requests import EngineSettings, ScoreRequest
from tests.tiny_models import tiny_model, tiny_tokenizer

REQUESTS = [ScoreRequest([3, 20, 21, 22], [30, 31, 32]), ScoreRequest([3, 20, 21, 40], [41] * 80)]


@given(st.integers(0, 10_000), st.integers(2, 50), st.floats(0, 30))
@example(0, 2, 1.750586773463762e-16)
@settings(max_examples=40, deadline=None)
def test_formula_is_scipys(seed: int, size: int, width: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0, width, (2, size)).astype(np.float32)
    found = float(jensen_shannon(torch.tensor(a)[None], torch.tensor(b)[None]))
    p, q = (torch.tensor(x, dtype=torch.float64).softmax(0).numpy() for x in (a, b))
    with np.errstate(invalid="ignore"):  # of two equal distributions scipy may take the root of -1e-17
        wanted = float(np.nan_to_num(jensenshannon(p, q))) ** 2
    assert found == pytest.approx(wanted, abs=2e-6)
    assert 0 <= found <= math.log(2) + 1e-7


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
@pytest.mark.parametrize("accelerate", ["auto", "off"])
def test_two_models_apart_as_their_own_logits_say(kind: str, accelerate: str) -> None:
    tokenizer = tiny_tokenizer(kind)  # type: ignore[arg-type]
    one, other = tiny_model(kind, 0), tiny_model(kind, 1)  # type: ignore[arg-type]
    settings = EngineSettings(accelerate=accelerate)  # type: ignore[arg-type]
    hidden = Engine(other, tokenizer, settings).hidden_states(REQUESTS)
    head = OutputHead(other)
    found = Engine(one, tokenizer, settings).divergence(REQUESTS, hidden, head)
    for request, values in zip(REQUESTS, found, strict=True):
        ids = torch.tensor([[*request.prompt_ids, *request.target_ids]])
        first = len(request.prompt_ids) - 1
        with torch.no_grad():
            logits = [m(ids).logits[0, first : first + len(request.target_ids)] for m in (one, other)]
        assert values == pytest.approx(jensen_shannon(*logits).numpy(), abs=1e-5)
        assert values.mean() > 0.01


def test_a_model_is_at_no_distance_from_itself_and_the_head_keeps_no_body() -> None:
    tokenizer, model = tiny_tokenizer("llama"), tiny_model("llama")
    engine = Engine(model, tokenizer)
    hidden = engine.hidden_states(REQUESTS)
    assert [state.shape for state in hidden] == [(3, 48), (80, 48)]
    assert max(float(values.max()) for values in engine.divergence(REQUESTS, hidden)) < 1e-6
    held = {id(p) for p in OutputHead(model)._head._head.parameters()}
    assert held == {id(model.lm_head.weight)}
