"""The vLLM back end against this project's own engine on the same tiny model; runs where vLLM is installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed (extra [vllm], an environment of its own)")

from dasd_bench.engine import DualRequest, Engine, GenerateRequest, ScoreRequest
from dasd_bench.engine.vllm import VllmEngine
from tests.engine.test_dual import gate
from tests.tiny_models import tiny_model, tiny_tokenizer

PROMPTS = [list(range(20, 20 + n)) for n in (5, 17, 40, 9)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("llama")
    tiny_model("llama", tokenizer=tokenizer).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def both(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    engine = VllmEngine(folder, tokenizer, dtype="fp32", slots=4)
    yield Engine(model, tokenizer), engine
    engine.close()


def test_generate(both):
    ours, theirs = both
    asked = [GenerateRequest(p, 20, frozenset(range(12)), name=str(i)) for i, p in enumerate(PROMPTS)]
    seen = []
    found = theirs.generate(asked, lambda number, _: seen.append(number))
    assert sorted(seen) == [0, 1, 2, 3]
    for one, two in zip(ours.generate(asked), found, strict=True):
        assert one.token_ids.tolist() == two.token_ids.tolist()
        assert (one.text, one.finish) == (two.text, two.finish)
        np.testing.assert_allclose(one.logp, two.logp, atol=1e-3)


def test_stop_strings(both):
    ours, theirs = both
    (free,) = ours.generate([GenerateRequest(PROMPTS[1], 30, frozenset())])
    stop = free.text[3:6]
    asked = [GenerateRequest(PROMPTS[1], 30, frozenset(), (stop,))]
    (one,), (two,) = ours.generate(asked), theirs.generate(asked)
    assert len(one.token_ids) < 30
    assert (one.token_ids.tolist(), one.finish) == (two.token_ids.tolist(), two.finish)


def test_score_and_loglikelihood(both):
    ours, theirs = both
    asked = [ScoreRequest(p, list(range(50, 58))) for p in PROMPTS]
    for one, two in zip(ours.score(asked), theirs.score(asked), strict=True):
        np.testing.assert_allclose(one.logp, two.logp, atol=1e-3)
        np.testing.assert_allclose(one.top1_logp, two.top1_logp, atol=1e-3)
        assert one.rank.tolist() == two.rank.tolist()
        assert np.isnan(two.entropy).all()
    for one, two in zip(ours.loglikelihood(asked), theirs.loglikelihood(asked), strict=True):
        assert abs(one.logp - two.logp) < 1e-2
        assert (one.greedy, one.tokens) == (two.greedy, two.tokens)


def test_dual_decode(both):
    ours, theirs = both
    asked = [DualRequest(p, [*p, 30, 31, 32], 25, frozenset(range(12)), name=str(i)) for i, p in enumerate(PROMPTS)]
    for one, two in zip(ours.dual_decode(asked, gate(0.02)), theirs.dual_decode(asked, gate(0.02)), strict=True):
        assert one.token_ids.tolist() == two.token_ids.tolist()
        assert one.origin.tolist() == two.origin.tolist()
        np.testing.assert_allclose(one.base_top1_logp, two.base_top1_logp, atol=1e-3)


def test_adapter(folder, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules=modules, init_lora_weights=False)).eval()
    tuned.save_pretrained(tmp_path)
    asked = [ScoreRequest(p, list(range(50, 58))) for p in PROMPTS]
    expected = Engine(tuned, tokenizer).score(asked)
    engine = VllmEngine(folder, tokenizer, dtype="fp32", adapter=tmp_path, lora_rank=4, slots=4)
    for one, two in zip(expected, engine.score(asked), strict=True):
        np.testing.assert_allclose(one.logp, two.logp, atol=1e-2)
    assert engine.describe()["adapter"] == "applied at run time"
    engine.close()
