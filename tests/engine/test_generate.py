"""Decoding equals transformers' own, one prompt at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dasd_bench.engine.engine import Engine
from dasd_bench.engine.requests import EngineSettings, GenerateRequest
from dasd_bench.methods.context import Sampling
from tests.engine.conftest import KINDS, naive_logp, pair, random_prompts


def requests_for(prompts, stop, new_tokens=40, **more):
    return [GenerateRequest(p, new_tokens, frozenset(stop), name=f"p{i}", **more) for i, p in enumerate(prompts)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_num_seqs", [3, 64])
def test_greedy_equals_transformers_one_by_one(kind, max_num_seqs):
    model, tokenizer = pair(kind)
    prompts = random_prompts(13)
    engine = Engine(model, tokenizer, EngineSettings(max_num_seqs=max_num_seqs, prefill_tokens=128))
    assert engine.describe()["attention"] == "packed"
    stop = set(range(40))  # many stop tokens, so that items leave at different times
    results = engine.generate(requests_for(prompts, stop))
    for prompt, result in zip(prompts, results, strict=True):
        expected = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=40, do_sample=False,
            eos_token_id=sorted(stop), pad_token_id=0, top_k=None, top_p=None, temperature=None,
        )[0, len(prompt) :].tolist()  # fmt: skip
        assert result.token_ids.tolist() == expected
        assert result.finish == ("stop" if expected[-1] in stop else "length")
        logp = naive_logp(model, prompt + expected)[len(prompt) - 1 : -1]
        chosen = logp.gather(1, torch.tensor(expected).unsqueeze(1)).squeeze(1)
        np.testing.assert_allclose(result.logp, chosen.numpy(), atol=2e-4)
        assert result.text == tokenizer.decode(expected, skip_special_tokens=True)


def test_the_model_is_left_as_it_was():
    model, tokenizer = pair("llama")
    before = (model.config._attn_implementation, type(model.lm_head), model.training)
    Engine(model, tokenizer).generate(requests_for(random_prompts(2), [1], 3))
    assert (model.config._attn_implementation, type(model.lm_head), model.training) == before


def test_long_shared_prefix_is_attended_by_reference():
    model, tokenizer = pair("qwen3")
    shots = random_prompts(1, seed=5, low=200, high=201)[0]
    prompts = [shots + own for own in random_prompts(9, seed=6)] + random_prompts(5, seed=7)
    fast = Engine(model, tokenizer, EngineSettings(max_num_seqs=6)).generate(requests_for(prompts, [], 25))
    slow = Engine(model, tokenizer, EngineSettings(accelerate="off")).generate(requests_for(prompts, [], 25))
    for one, other in zip(fast, slow, strict=True):
        assert one.token_ids.tolist() == other.token_ids.tolist()
        np.testing.assert_allclose(one.logp, other.logp, atol=2e-4)


@pytest.mark.parametrize("sampling", [Sampling(0.9), Sampling(0.7, top_p=0.8), Sampling(1.2, top_k=5, top_p=0.9)])
def test_sampling_does_not_depend_on_order_or_batch(sampling):
    model, tokenizer = pair("llama")
    prompts = random_prompts(7)
    asked = [GenerateRequest(p, 20, frozenset(), sampling=sampling, seed=i) for i, p in enumerate(prompts)]
    together = Engine(model, tokenizer).generate(asked)
    turned = Engine(model, tokenizer, EngineSettings(max_num_seqs=2)).generate(asked[::-1])[::-1]
    assert [r.token_ids.tolist() for r in together] == [r.token_ids.tolist() for r in turned]
    other = Engine(model, tokenizer).generate(
        [GenerateRequest(p, 20, frozenset(), sampling=sampling, seed=i + 100) for i, p in enumerate(prompts)]
    )
    assert [r.token_ids.tolist() for r in together] != [r.token_ids.tolist() for r in other]


def test_stop_string_ends_an_item_and_is_kept():
    model, tokenizer = pair("llama")
    prompt = random_prompts(1)[0]
    engine = Engine(model, tokenizer)
    (free,) = engine.generate([GenerateRequest(prompt, 40, frozenset())])
    text = tokenizer.decode(free.token_ids[10:13])
    (stopped,) = engine.generate([GenerateRequest(prompt, 40, frozenset(), stop_strings=(text, "never seen"))])
    assert stopped.finish == "stop"
    assert text in tokenizer.decode(stopped.token_ids)
    assert text not in tokenizer.decode(stopped.token_ids[:-1])
    assert stopped.token_ids.tolist() == free.token_ids.tolist()[: len(stopped.token_ids)]


def test_results_stream_and_repeat_bit_for_bit():
    model, tokenizer = pair("gemma2")
    asked = requests_for(random_prompts(9), range(50))
    seen = {}
    first = Engine(model, tokenizer, EngineSettings(max_num_seqs=4)).generate(asked, seen.__setitem__)
    second = Engine(model, tokenizer, EngineSettings(max_num_seqs=4)).generate(asked)
    assert sorted(seen) == list(range(9))
    for index, (one, two) in enumerate(zip(first, second, strict=True)):
        assert seen[index] is one
        assert one.logp.tobytes() == two.logp.tobytes()


def test_generation_ends_where_the_context_ends():
    model, tokenizer = pair("llama")
    prompt = (random_prompts(1)[0] * 100)[:1020]
    (result,) = Engine(model, tokenizer).generate([GenerateRequest(prompt, 40, frozenset())])
    assert len(result.token_ids) == 4
    assert result.finish == "length"
