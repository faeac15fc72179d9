"""What training and the engine take, against what is counted for them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from dasd_bench.config.training import TrainingConfig
from dasd_bench.resources.needs import (
    PROCESS,
    EngineLoad,
    TrainingLoad,
    engine_need,
    lora_parameters,
    training_need,
)
from dasd_bench.resources.shapes import ModelShape, shape_of_config
from dasd_bench.training import adapter
from dasd_bench.training.model import PackedModel, set_checkpointing

SIZES = {
    "num_hidden_layers": 3,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 300,
    "max_position_embeddings": 1024,
}
CONFIG = TrainingConfig(lora_rank=4)
LENGTHS = (150, 106)


def small(kind: str, dtype: torch.dtype = torch.float32) -> tuple[Any, ModelShape]:
    """A random model and its shape."""
    config = SIZES | {"model_type": kind}
    extra = {"attn_logit_softcapping": 50.0} if kind == "gemma2" else {}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES, **extra)).to(dtype).eval()
    model.requires_grad_(False)
    return model, shape_of_config(config | extra | {"tie_word_embeddings": model.config.tie_word_embeddings})


def saved_bytes(model: Any, *, checkpointing: bool) -> tuple[int, int]:
    """Bytes that one forward pass of training keeps for the backward pass, and the adapter's values."""
    kept: dict[int, tuple[int, torch.Tensor]] = {}
    with PackedModel(model) as packed:
        assert packed.packs
        tuned = adapter.attach(model, CONFIG, "base")
        if checkpointing:
            set_checkpointing(model, on=True)
        adapter.accelerate(tuned, dora=False)
        tuned.train()
        own = {one.untyped_storage().data_ptr() for one in [*tuned.parameters(), *tuned.buffers()]}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                # The tensor is held, or the address would be another's.
                kept[storage.data_ptr()] = storage.nbytes(), tensor
            return tensor

        positions = torch.cat([torch.arange(length) for length in LENGTHS])
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            packed.hidden(positions % 300, positions, LENGTHS)
    return sum(size for size, _ in kept.values()), sum(p.numel() for p in adapter.trained(tuned).values())


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_are_those_that_autograd_keeps(kind: str, dtype: torch.dtype) -> None:
    model, shape = small(kind, dtype)
    load = TrainingLoad(CONFIG, longest=max(LENGTHS), batch_tokens=sum(LENGTHS))
    need = training_need(shape, load, dtype.itemsize, packed=True, checkpointing=False, microbatch=sum(LENGTHS))
    passing = sum(LENGTHS) * (4 * shape.inner + 6 * shape.width) * dtype.itemsize
    kept, trained = saved_bytes(model, checkpointing=False)
    assert need.activations - passing == pytest.approx(kept, rel=0.2)
    assert trained == lora_parameters(shape, CONFIG)
    assert need.trained == 16 * trained
    assert need.weights == sum(p.numel() for p in small(kind, dtype)[0].parameters()) * dtype.itemsize


def test_checkpointing_keeps_the_inputs_of_layers_and_one_layer() -> None:
    model, shape = small("llama")
    load = TrainingLoad(CONFIG, longest=max(LENGTHS), batch_tokens=sum(LENGTHS))
    every, few = (
        training_need(shape, load, 4, packed=True, checkpointing=on, microbatch=1024).activations
        for on in (False, True)
    )
    inputs = shape.layers * sum(LENGTHS) * shape.width * 4
    kept, _ = saved_bytes(model, checkpointing=True)
    assert kept == pytest.approx(inputs, rel=0.35)
    assert inputs < few < every


def test_packed_weights_are_two_copies_of_what_is_frozen() -> None:
    _, shape = small("llama")
    load = TrainingLoad(CONFIG, longest=100, batch_tokens=400)
    packed, plain = (
        training_need(shape, load, 4, packed=on, checkpointing=False, microbatch=256) for on in (True, False)
    )
    assert (packed.packed, plain.packed) == (2 * 4 * (shape.linear + shape.head), 0)
    # The kernels that come with them keep less for the backward pass.
    assert packed.total - plain.total == packed.packed - (plain.activations - packed.activations)
    assert packed.activations < plain.activations


def test_all_weights_take_sixteen_bytes_each() -> None:
    _, shape = small("llama")
    load = TrainingLoad(TrainingConfig(lora_rank=0), longest=100, batch_tokens=400)
    need = training_need(shape, load, 2, packed=True, checkpointing=False, microbatch=256)
    assert need.weights + need.trained == 16 * shape.parameters
    assert need.packed == 0


def test_lora_on_named_layers_is_counted() -> None:
    model, shape = small("llama")
    config = TrainingConfig(lora_rank=4, lora_targets="q_proj,down_proj")
    tuned = adapter.attach(model, config, "base")
    assert lora_parameters(shape, config) == sum(p.numel() for p in adapter.trained(tuned).values())


def test_the_engine_packs_and_caches_only_what_fits() -> None:
    _, shape = small("llama")
    load = EngineLoad(sequences=64, prompt=100, new=27)
    weights = shape.parameters * 4
    ample = engine_need(shape, load, 4, 1 << 40, packs=True)
    assert ample.kv_cache == 64 * 128 * 2 * shape.layers * shape.key_heads * shape.head_dim * 4
    assert ample.packed == (shape.linear + shape.head) * 4
    tight = engine_need(shape, load, 4, weights + (1 << 20), packs=True)
    assert tight.packed == 0
    assert 0 < tight.kv_cache < ample.kv_cache
    assert tight.to_allocate == tight.total - PROCESS
    assert engine_need(shape, load, 4, 1 << 40, packs=False).packed == 0


def test_the_cache_is_the_engines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from dasd_bench.engine.kv_cache import KVCache
    from dasd_bench.engine.model_runner import ModelRunner

    model, shape = small("qwen3")
    cache = KVCache(ModelRunner(model), rows=3, tokens=100 + 27 + 1, padded=False)
    taken = sum(one.nbytes for one in [*cache.keys, *cache.values])
    assert engine_need(shape, EngineLoad(3, 100, 27), 4, 1 << 40, packs=False).kv_cache == taken
