"""The vLLM back end against this project's own engine on the same tiny model; runs where vLLM is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed (extra [vllm], an environment of its own)")

from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from dasd_bench.engine.engine import Engine
from dasd_bench.engine.requests import DualRequest, GenerateRequest, ScoreRequest
from dasd_bench.engine.vllm import VllmEngine, merged_folder
from dasd_bench.models.load import load_model
from tests.engine.test_dual import gate
from tests.tiny_models import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("default")  # what vLLM and its dependencies deprecate is theirs

PROMPTS = [list(range(20, 20 + n)) for n in (5, 17, 40, 9)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("llama")
    # vLLM's CPU attention knows head sizes from 32 on only.
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def both(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    engine = VllmEngine(folder, tokenizer, dtype="fp32", max_num_seqs=4, eager=True)
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
    stop = theirs._tokenizer.decode(free.token_ids[4:7], skip_special_tokens=False)
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


def test_one_engine_serves_the_base_and_adapters_in_turn(folder, both, tmp_path):
    from peft import LoraConfig, get_peft_model

    theirs = both[1]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = [ScoreRequest(p, list(range(50, 58))) for p in PROMPTS]
    long = [GenerateRequest(p, 20, frozenset(), name=str(i)) for i, p in enumerate(PROMPTS)]
    base = theirs.score(asked), theirs.generate(long)
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        config = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
        tuned = get_peft_model(model, config).eval()
        tuned.save_pretrained(tmp_path / str(seed))
        engine = Engine(tuned, tokenizer)
        merged = merged_folder(load_model(folder, dtype="fp32", device="cpu", adapter=tmp_path / str(seed)), tokenizer)
        theirs.load(Path(merged.name))
        merged.cleanup()
        for one, two, without in zip(engine.score(asked), theirs.score(asked), base[0], strict=True):
            np.testing.assert_allclose(one.logp, two.logp, atol=1e-3)
            assert np.abs(two.logp - without.logp).max() > 1e-2
        for one, two in zip(engine.generate(long), theirs.generate(long), strict=True):
            assert one.token_ids.tolist() == two.token_ids.tolist()
    theirs.load(folder)
    for one, two in zip(base[0], theirs.score(asked), strict=True):
        assert one.logp.tolist() == two.logp.tolist()
    for one, two in zip(base[1], theirs.generate(long), strict=True):
        assert one.token_ids.tolist() == two.token_ids.tolist()
