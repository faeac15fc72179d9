"""Scores equal one plain forward pass per sequence; log-likelihoods equal lm-eval's hf backend."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dasd_bench.engine.engine import Engine
from dasd_bench.engine.requests import EngineSettings, ScoreRequest
from tests.engine.conftest import KINDS, naive_logp, pair, random_prompts


def choices(documents=7, shots=0, seed=0):
    """Documents with four continuations each, after a common run of ``shots`` tokens."""
    rng = np.random.default_rng(seed)
    common = rng.integers(10, 300, shots).tolist()
    asked = []
    for number, own in enumerate(random_prompts(documents, seed=seed + 1)):
        for choice in range(4):
            target = rng.integers(10, 300, 1 + (number + choice) % 5).tolist()
            asked.append(ScoreRequest(common + own, target, name=f"doc {number} choice {choice}"))
    return asked


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shots", "prefill"), [(0, 2048), (0, 64), (150, 2048), (150, 100), (420, 2048)])
def test_scores_equal_a_plain_forward(kind, shots, prefill):
    model, tokenizer = pair(kind)
    asked = choices(shots=shots)
    asked += [asked[0], ScoreRequest(asked[4].prompt_ids, [*asked[4].target_ids, 55, 66])]  # a repeat, an extension
    results = Engine(model, tokenizer, EngineSettings(prefill_tokens=prefill)).score(asked)
    for request, result in zip(asked, results, strict=True):
        logp = naive_logp(model, [*request.prompt_ids, *request.target_ids])
        logp = logp[len(request.prompt_ids) - 1 : -1]
        target = torch.tensor(request.target_ids).unsqueeze(1)
        chosen = logp.gather(1, target)
        np.testing.assert_allclose(result.logp, chosen.squeeze(1).numpy(), atol=3e-4)
        np.testing.assert_allclose(result.top1_logp, logp.amax(-1).numpy(), atol=3e-4)
        np.testing.assert_allclose(result.entropy, -(logp.exp() * logp).sum(-1).numpy(), atol=3e-4)
        assert result.rank.tolist() == (logp > chosen).sum(-1).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_loglikelihood_equals_lm_eval(kind):
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = pair(kind)
    backend = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, max_length=1024)
    asked = choices(shots=130, seed=2)
    # One greedy continuation, so that both answers of is_greedy are seen.
    best = int(naive_logp(model, list(asked[0].prompt_ids))[-1].argmax())
    asked.append(ScoreRequest(asked[0].prompt_ids, [best], name="greedy"))
    theirs = backend._loglikelihood_tokens(
        [(("", ""), list(r.prompt_ids), list(r.target_ids)) for r in asked], disable_tqdm=True
    )
    seen = {}
    ours = Engine(model, tokenizer).loglikelihood(asked, seen.__setitem__)
    assert seen == dict(enumerate(ours))
    for (logp, greedy), mine, request in zip(theirs, ours, asked, strict=True):
        assert mine.logp == pytest.approx(logp, abs=1e-3)
        assert mine.greedy == greedy
        assert mine.tokens == len(request.target_ids)
    assert ours[-1].greedy


def test_scoring_without_acceleration_agrees():
    model, tokenizer = pair("llama")
    asked = choices()
    fast = Engine(model, tokenizer).score(asked)
    slow = Engine(model, tokenizer, EngineSettings(accelerate="off")).score(asked)
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_allclose(one.entropy, other.entropy, atol=3e-4)


def test_every_token_of_a_shared_prefix_is_computed_once(monkeypatch):
    model, tokenizer = pair("llama")
    engine = Engine(model, tokenizer)
    counted = []
    hidden = engine._runner.hidden
    monkeypatch.setattr(
        engine._runner, "hidden", lambda t, p, metadata: counted.append(len(t)) or hidden(t, p, metadata)
    )
    asked = choices(documents=6, shots=600)
    engine.loglikelihood(asked)
    distinct = set()
    for request in asked:
        path = [*request.prompt_ids, *request.target_ids][:-1]
        distinct |= {tuple(path[: end + 1]) for end in range(len(path))}
    assert sum(counted) == len(distinct)
