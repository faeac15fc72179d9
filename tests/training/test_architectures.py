"""LoRA beyond the plain decoder: the scored model is the trained one, and what is not trained is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from dasd_bench.console import Console
from dasd_bench.errors import TrainingError
from dasd_bench.models.load import load_model
from dasd_bench.training.model import PackedModel
from dasd_bench.types import TrainExample
from tests.tiny_models import tiny_model, tiny_tokenizer
from tests.training.helpers import BASE as PLAN
from tests.training.helpers import Sft, make_examples, metrics, naive_losses, run

pytestmark = pytest.mark.filterwarnings("ignore")

V = len(tiny_tokenizer("llama"))
SHAPE: dict[str, Any] = {
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
GPT: dict[str, Any] = {"vocab_size": V, "n_embd": 48, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 1}
DRY = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
SHARED = {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32}

# Configuration, LoRA targets, and what is left untrained (None: nothing worth a sentence).
CASES: dict[str, tuple[Any, str, str | None]] = {
    "gpt2": (tf.GPT2Config(**GPT, **DRY), "all-linear", None),
    "gpt2-c_attn": (tf.GPT2Config(**GPT, **DRY), "c_attn", None),
    "tied-head": (tf.Qwen3Config(**SHAPE, head_dim=16, tie_word_embeddings=True), "q_proj,lm_head", None),
    "mixtral": (tf.MixtralConfig(**SHAPE, num_local_experts=4, num_experts_per_tok=2), "all-linear", None),
    "qwen2-moe": (
        tf.Qwen2MoeConfig(**SHAPE, **SHARED, num_experts=4, num_experts_per_tok=2),
        "all-linear",
        "mlp.experts.gate_up_proj",
    ),
    "mamba": (
        tf.MambaConfig(vocab_size=V, hidden_size=48, num_hidden_layers=2, state_size=8),
        "all-linear",
        "mixer.out_proj",
    ),
    "lfm2": (tf.Lfm2Config(**SHAPE, layer_types=["conv", "full_attention"]), "all-linear", None),
    "bert-as-decoder": (
        tf.BertConfig(
            vocab_size=V, hidden_size=48, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
            is_decoder=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        ),
        "all-linear",
        None,
    ),
}  # fmt: skip


def fresh(name: str) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(CASES[name][0]).eval()


@pytest.mark.parametrize("name", CASES)
def test_the_scored_model_is_the_trained_one(name: str, tmp_path: Path) -> None:
    _, targets, untrained = CASES[name]
    base = fresh(name)
    base.save_pretrained(tmp_path / "base")
    tiny_tokenizer("llama").save_pretrained(tmp_path / "base")
    model = load_model(tmp_path / "base", dtype="fp32", device="cpu")
    console = Console(quiet=True)
    result = run(model, make_examples(8), tmp_path / "out", lr=1e-2, epochs=2, lora_targets=targets, console=console)
    said = " ".join(console.warnings)
    assert ("untrained" in said) == (untrained is not None)
    assert untrained is None or untrained in said
    ids = torch.arange(20, 60)[None]
    with torch.no_grad():
        wanted = model.eval()(ids).logits
        assert float((wanted - base(ids).logits).abs().max()) > 0.05
        for merge in (True, False):
            scored = load_model(tmp_path / "base", dtype="fp32", device="cpu", adapter=result.adapter_dir, merge=merge)
            torch.testing.assert_close(scored(ids).logits, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "mixtral", "lfm2", "bert-as-decoder"])
def test_losses_are_those_of_the_naive_trainer(name: str, tmp_path: Path) -> None:
    examples = make_examples(8)
    run(fresh(name), examples, tmp_path)
    found = [line["loss"] for line in metrics(tmp_path)]
    np.testing.assert_allclose(found, naive_losses(fresh(name), examples, Sft(), PLAN), atol=1e-5)


def test_rows_of_one_pack_do_not_meet_in_a_convolution() -> None:
    with PackedModel(fresh("lfm2")) as packed:
        assert not packed.packs
    with PackedModel(fresh("mixtral")) as packed:
        assert packed.packs


def test_a_layer_whose_weights_kernels_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"'out_proj' cannot be adapted.*MambaForCausalLM.*in_proj"):
        run(fresh("mamba"), make_examples(4), tmp_path, lora_targets="out_proj")


def test_a_token_beyond_the_embedding_is_named(tmp_path: Path) -> None:
    rows = V
    bad = TrainExample(
        "gsm8k/train/7",
        np.array([5], np.int32),
        np.array([6, rows], np.int32),
        np.ones(2, np.float32),
        np.zeros(2, bool),
    )
    with pytest.raises(TrainingError, match=f"gsm8k/train/7 has token {rows}, for which the model has no embedding"):
        run(tiny_model("llama"), [*make_examples(4), bad], tmp_path)
