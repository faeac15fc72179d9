"""A decoding step through all layers in one call gives the bits of the model's own code; other models keep theirs."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from dasd_bench.engine.engine import Engine
from dasd_bench.engine.kernels.linear import load_linear_kernel
from dasd_bench.engine.requests import DualRequest, GenerateRequest
from dasd_bench.engine.types import Sampling
from tests.engine.test_dual import gate
from tests.tiny_models import tiny_tokenizer

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
FORMS = {
    "llama": LlamaConfig(**SIZES),
    "llama with biases": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "llama, one head of keys": LlamaConfig(**{**SIZES, "num_key_value_heads": 1}, head_dim=32),
    "mistral with a window": MistralConfig(**SIZES, sliding_window=7),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
}
OTHERS = {
    "gemma2": Gemma2Config(**SIZES, head_dim=16),  # norms behind attention and block
    "granite": GraniteConfig(**SIZES, residual_multiplier=0.5),  # Llama's parts that mean something else
}
PROMPTS = [list(range(20, 20 + length)) for length in (5, 31, 9, 16, 2)]


def engine_of(config: PreTrainedConfig, dtype: torch.dtype) -> Engine:
    if load_linear_kernel(torch.device("cpu"), dtype) is None:
        pytest.skip("no C++ compiler, or a processor without AVX-512")
    tokenizer = tiny_tokenizer("llama")
    config.vocab_size = len(tokenizer)
    torch.manual_seed(3)
    return Engine(AutoModelForCausalLM.from_config(config, dtype=dtype).eval(), tokenizer)


def with_and_without(engine: Engine, work):
    """The work's results with the step and, by the model's own code, without it."""
    assert engine.describe()["decode"] == "compiled kernels, all layers in one call"
    found = work()
    step, engine._runner.layer_step = engine._runner.layer_step, None
    wanted = work()
    engine._runner.layer_step = step
    return found, wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("form", FORMS)
def test_the_bits_are_those_of_the_models_own_code(form, dtype):
    engine = engine_of(FORMS[form], dtype)
    plain = [GenerateRequest(prompt, 40, frozenset({1, 2, 3})) for prompt in PROMPTS]
    sampled = [GenerateRequest(prompt, 20, frozenset(), sampling=Sampling(1.0), seed=7) for prompt in PROMPTS]
    found, wanted = with_and_without(engine, lambda: engine.generate([*plain, *sampled]))
    for one, two in zip(found, wanted, strict=True):
        assert one.token_ids.tolist() == two.token_ids.tolist()
        assert one.logp.tolist() == two.logp.tolist()
    dual = [DualRequest(prompt, [*prompt, 30, 31, 32], 25, frozenset(range(12))) for prompt in PROMPTS]
    found, wanted = with_and_without(engine, lambda: engine.dual_decode(dual, gate(0.02)))
    for one, two in zip(found, wanted, strict=True):
        assert one.token_ids.tolist() == two.token_ids.tolist()
        assert one.reference_logp.tolist() == two.reference_logp.tolist()


def test_rows_that_see_a_shared_prefix_keep_the_models_own_code():
    engine = engine_of(FORMS["llama"], torch.float32)
    prefix = [20 + number % 60 for number in range(140)]
    asked = [GenerateRequest([*prefix, 20 + number, 30], 12, frozenset()) for number in range(6)]
    found, wanted = with_and_without(engine, lambda: engine.generate(asked))
    assert [one.token_ids.tolist() for one in found] == [one.token_ids.tolist() for one in wanted]


@pytest.mark.parametrize("form", OTHERS)
def test_models_of_another_form_are_left_to_their_own_code(form):
    engine = engine_of(OTHERS[form], torch.float32)
    assert engine.describe()["decode"] == "compiled kernel"
    assert engine._runner.layer_step is None
