"""Models as they come: with a LoRA adapter, in bf16, of an architecture that the packed path does not know."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from dasd_bench.engine.engine import Engine
from dasd_bench.engine.requests import GenerateRequest, ScoreRequest
from tests.engine.conftest import naive_logp, pair, random_prompts
from tests.engine.test_score import choices


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_lora_adapter_merged_or_not(kind):
    from peft import LoraConfig, get_peft_model

    model, tokenizer = copy.deepcopy(pair(kind)[0]), pair(kind)[1]
    torch.manual_seed(1)
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    tuned.eval()
    asked = choices(documents=3)
    expected = [naive_logp(tuned, [*r.prompt_ids, *r.target_ids]) for r in asked]
    apart = Engine(tuned, tokenizer).score(asked)
    merged = Engine(tuned.merge_and_unload(), tokenizer).score(asked)
    base = Engine(pair(kind)[0], tokenizer).score(asked)
    for request, logp, one, two in zip(asked, expected, apart, merged, strict=True):
        rows = logp[len(request.prompt_ids) - 1 : -1]
        chosen = rows.gather(1, torch.tensor(request.target_ids).unsqueeze(1)).squeeze(1).numpy()
        np.testing.assert_allclose(one.logp, chosen, atol=3e-4)
        np.testing.assert_allclose(two.logp, chosen, atol=3e-4)
    assert any(abs(a.logp - b.logp).max() > 0.01 for a, b in zip(apart, base, strict=True))


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_bf16_stays_near_fp32(kind):
    model, tokenizer = copy.deepcopy(pair(kind)[0]).to(torch.bfloat16), pair(kind)[1]
    engine = Engine(model, tokenizer)
    assert engine.describe()["dtype"] == "bfloat16"
    asked = choices(documents=3)
    for request, result in zip(asked, engine.score(asked), strict=True):
        rows = naive_logp(pair(kind)[0], [*request.prompt_ids, *request.target_ids])[len(request.prompt_ids) - 1 : -1]
        chosen = rows.gather(1, torch.tensor(request.target_ids).unsqueeze(1)).squeeze(1).numpy()
        np.testing.assert_allclose(result.logp, chosen, atol=0.3)
    # What decoding notes for its tokens is what scoring says of them, up to bf16's rounding.
    prompts = random_prompts(4)
    made = engine.generate([GenerateRequest(p, 15, frozenset()) for p in prompts])
    scored = engine.score([ScoreRequest(p, g.token_ids.tolist()) for p, g in zip(prompts, made, strict=True)])
    for generation, scores in zip(made, scored, strict=True):
        np.testing.assert_allclose(generation.logp, scores.logp, atol=0.2)


def test_other_architectures_take_transformers_own_path():
    """BLOOM places tokens by ALiBi and knows no attention interface."""
    tokenizer = pair("llama")[1]
    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=2, n_head=4)).eval()
    check_against_transformers(model, tokenizer, "transformers")


@pytest.mark.parametrize("drops", [True, False])
def test_a_model_that_the_packed_path_gets_wrong_is_left_alone(drops, monkeypatch):
    model, tokenizer = copy.deepcopy(pair("llama")[0]), pair("llama")[1]
    attention = type(model.model.layers[0].self_attn)
    forward = attention.forward
    if drops:

        def other(self, hidden_states, packed=None, **more):
            return forward(self, hidden_states, **more)
    else:

        def other(self, hidden_states, **more):
            # Seen in no argument: a model whose keys depend on something the metadata does not know.
            if more.get("packed") is not None:
                hidden_states = hidden_states.flip(1)
            return forward(self, hidden_states, **more)

    monkeypatch.setattr(attention, "forward", other)
    check_against_transformers(model, tokenizer, "transformers")


def check_against_transformers(model, tokenizer, path):
    engine = Engine(model, tokenizer)
    assert engine.describe()["attention"] == path
    prompts = random_prompts(3)
    made = engine.generate([GenerateRequest(p, 6, frozenset()) for p in prompts])
    for prompt, result in zip(prompts, made, strict=True):
        ids = list(prompt)
        for _ in range(6):
            ids.append(int(naive_logp(model, ids)[-1].argmax()))
        assert result.token_ids.tolist() == ids[len(prompt) :]
    (scores,) = engine.score([ScoreRequest([5, 6, 7], [8, 9], name="one")])
    rows = naive_logp(model, [5, 6, 7, 8, 9])[2:-1]
    np.testing.assert_allclose(scores.logp, rows.gather(1, torch.tensor([[8], [9]])).squeeze(1).numpy(), atol=1e-4)


def test_linear_layers_are_not_copied_where_memory_is_short(monkeypatch):
    from dasd_bench.engine import linears

    model, tokenizer = pair("llama")
    monkeypatch.setattr(linears, "MEMORY_SHARE", 0.0)
    engine = Engine(model, tokenizer)
    assert engine.describe()["linears"] == "torch"
    check_against_transformers(model, tokenizer, "packed")
