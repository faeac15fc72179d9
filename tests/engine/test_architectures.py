"""Tiny random checkpoints of many architectures, each against its own forward pass: one sequence, no cache."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
import transformers as tf
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from dasd_bench.engine.engine import Engine
from dasd_bench.engine.errors import EngineError
from dasd_bench.engine.requests import DualRequest, GenerateRequest, ScoreRequest
from dasd_bench.methods.context import Choice
from tests.engine.conftest import naive_logp, pair, random_prompts

pytestmark = pytest.mark.filterwarnings("ignore")

V = len(pair("llama")[1])
SHAPE = {
    "vocab_size": V,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
GPT = {"vocab_size": V, "n_embd": 48, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 1}
STATE = {"vocab_size": V, "num_hidden_layers": 2, "state_size": 8}
IMAGES = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}

# The path that must be taken ("packed" or how transformers' own is called), and the configuration.
ARCHITECTURES: dict[str, tuple[str, Callable[[], tf.PreTrainedConfig]]] = {
    "gpt2": ("packed", lambda: tf.GPT2Config(**GPT)),
    "opt": ("packed", lambda: tf.OPTConfig(vocab_size=V, hidden_size=48, ffn_dim=96, num_hidden_layers=2,
                                           num_attention_heads=4, word_embed_proj_dim=48)),
    "opt-with-projections": ("transformers", lambda: tf.OPTConfig(
        vocab_size=V, hidden_size=48, ffn_dim=96, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32)),
    "mixtral": ("packed", lambda: tf.MixtralConfig(**SHAPE, num_local_experts=4, num_experts_per_tok=2)),
    "qwen2-moe": ("packed", lambda: tf.Qwen2MoeConfig(**SHAPE, **MOE, num_experts=4,
                                                      shared_expert_intermediate_size=32)),
    "qwen3-moe": ("packed", lambda: tf.Qwen3MoeConfig(**SHAPE, **MOE, head_dim=16, num_experts=4)),
    "olmoe": ("packed", lambda: tf.OlmoeConfig(**SHAPE, num_experts=4, num_experts_per_tok=2)),
    "granite-moe": ("packed", lambda: tf.GraniteMoeConfig(**SHAPE, num_local_experts=4, num_experts_per_tok=2)),
    "gpt-oss": ("transformers", lambda: tf.GptOssConfig(**SHAPE, head_dim=16, num_local_experts=4,
                                                        num_experts_per_tok=2)),
    # Keys and values are of unlike width.
    "deepseek-v3": ("transformers", lambda: tf.DeepseekV3Config(
        **{**SHAPE, "num_key_value_heads": 4}, **MOE, n_routed_experts=4, q_lora_rank=16, kv_lora_rank=16,
        qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=16, n_group=1, topk_group=1, first_k_dense_replace=1)),
    "llama-4-text": ("transformers", lambda: tf.Llama4TextConfig(
        **SHAPE, head_dim=16, intermediate_size_mlp=96, num_local_experts=2, interleave_moe_layer_step=2,
        attention_chunk_size=16)),
    "gemma-3-with-images": ("packed", lambda: tf.Gemma3Config(
        text_config={**SHAPE, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8},
        vision_config=IMAGES, mm_tokens_per_image=4)),
    "mamba": ("transformers, no cache", lambda: tf.MambaConfig(**STATE, hidden_size=48)),
    "mamba-2": ("transformers, no cache", lambda: tf.Mamba2Config(**STATE, hidden_size=64, num_heads=8, head_dim=16,
                                                                  n_groups=1, chunk_size=8)),
    "jamba": ("transformers", lambda: tf.JambaConfig(
        **SHAPE, num_experts=2, num_experts_per_tok=1, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2,
        expert_layer_offset=1, mamba_dt_rank=4)),
    # States are kept in the modules, where sequences that are decoded in turn would meet.
    "recurrent-gemma": ("transformers, no cache", lambda: tf.RecurrentGemmaConfig(
        **{**SHAPE, "num_hidden_layers": 3, "num_key_value_heads": 1}, attention_window_size=16, lru_width=48)),
    "bloom": ("transformers", lambda: tf.BloomConfig(vocab_size=V, hidden_size=32, n_layer=2, n_head=4)),
    "gpt-j": ("transformers", lambda: tf.GPTJConfig(**GPT, rotary_dim=8)),
    "xglm": ("transformers", lambda: tf.XGLMConfig(vocab_size=V, d_model=48, ffn_dim=96, num_layers=2,
                                                   attention_heads=4)),
    # A head that is more than a matrix.
    "bert-as-decoder": ("packed", lambda: tf.BertConfig(vocab_size=V, hidden_size=48, num_hidden_layers=1,
                                                        num_attention_heads=4, intermediate_size=64, is_decoder=True)),
}  # fmt: skip


@cache
def model_of(name: str) -> tf.PreTrainedModel:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(ARCHITECTURES[name][1]()).eval()
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if parameter.dim() >= 2 and "A_log" not in parameter_name:
                    parameter.mul_(3)
    return model


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_gives_what_its_own_forward_does(name: str) -> None:
    model = model_of(name)
    engine = Engine(model, pair("llama")[1])
    assert engine.describe()["attention"] == ARCHITECTURES[name][0]
    prompts = random_prompts(3)
    for ids, scores in zip(prompts, engine.score([ScoreRequest(p[:3], p[3:]) for p in prompts]), strict=True):
        wanted = naive_logp(model, ids)[2:-1].gather(1, torch.tensor(ids[3:]).unsqueeze(1)).squeeze(1)
        np.testing.assert_allclose(scores.logp, wanted.numpy(), atol=1e-4)
    made = engine.generate([GenerateRequest(p, 4, frozenset()) for p in prompts])
    for prompt, generation in zip(prompts, made, strict=True):
        check_greedy(model, prompt, generation.token_ids.tolist(), generation.logp)
    (dual,) = engine.dual_decode([DualRequest(prompts[0], prompts[1], 3, frozenset())], base_only)
    check_greedy(model, prompts[0], dual.token_ids.tolist(), dual.base_logp)
    states = engine.hidden_states([ScoreRequest(prompts[0][:3], prompts[0][3:])])
    (apart,) = engine.divergence([ScoreRequest(prompts[0][:3], prompts[0][3:])], states)
    assert float(apart.max()) < 1e-5


def base_only(step):
    return Choice(step.base_token, torch.zeros_like(step.base_token, dtype=torch.uint8))


def check_greedy(model, prompt, tokens, logp):
    """Every token is the likeliest (or ties with it within rounding), and its log-probability is the model's."""
    ids = list(prompt)
    for token, value in zip(tokens, logp, strict=True):
        row = naive_logp(model, ids)[-1]
        assert float(row.max() - row[token]) < 1e-4
        assert float(row[token]) == pytest.approx(float(value), abs=1e-4)
        ids.append(token)


def test_a_model_that_looks_ahead_is_refused() -> None:
    config = tf.BertConfig(
        vocab_size=V, hidden_size=48, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, is_decoder=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(EngineError, match="BertLMHeadModel attends to later tokens"):
        Engine(model, pair("llama")[1])


def test_a_model_that_cannot_run_on_token_ids_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("gpt2")

    def broken(*_: object, **__: object) -> None:
        raise TypeError("pixel_values are needed")

    monkeypatch.setattr(model, "forward", broken)
    with pytest.raises(EngineError, match="cannot run GPT2LMHeadModel on token ids alone: pixel_values are needed"):
        Engine(model, pair("llama")[1])
