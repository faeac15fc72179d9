"""Loading models, tokenizers and adapters: what comes back, and what is refused in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from dasd_bench.console import Console
from dasd_bench.errors import ModelError, UsageError
from dasd_bench.models import load
from dasd_bench.models.gguf import quiet_transformers
from dasd_bench.models.load import load_model, load_tokenizer, resolve_device, resolve_dtype
from tests.tiny_models import KINDS, Kind, tiny_model

IDS = torch.tensor([[5, 9, 30, 41, 17, 300]])
TinyFolder = Callable[[str], Path]


def copy(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def make_adapter(base: Path, folder: Path) -> Path:
    """An adapter with random factors, saved by PEFT itself."""
    model = AutoModelForCausalLM.from_pretrained(base)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        tuned = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
        tuned.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_comes_back_the_same(kind: Kind, tiny_folder: TinyFolder) -> None:
    loaded, made = load_model(tiny_folder(kind)), tiny_model(kind)
    assert not loaded.training
    assert loaded.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(loaded(IDS).logits, made(IDS).logits, rtol=0, atol=1e-6)


def test_gemma2_is_loaded_with_an_attention_that_caps(tiny_folder: TinyFolder) -> None:
    model = load_model(tiny_folder("gemma2"))
    assert model.config._attn_implementation == "eager"
    assert model(IDS).logits.abs().max() <= 8.0


@pytest.mark.parametrize("kind", KINDS)
def test_merged_and_unmerged_adapters_agree(kind: Kind, tiny_folder: TinyFolder, tmp_path: Path) -> None:
    base = tiny_folder(kind)
    adapter = make_adapter(base, tmp_path / "adapter")
    merged, unmerged = load_model(base, adapter=adapter), load_model(base, adapter=adapter, merge=False)
    with torch.no_grad():
        wanted = unmerged(IDS).logits
        torch.testing.assert_close(merged(IDS).logits, wanted, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(load_model(base)(IDS).logits, wanted, atol=1e-2)
    assert not any("lora" in name for name, _ in merged.named_parameters())


def test_an_adapter_of_another_architecture_is_refused(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    other = tmp_path / "gpt2"
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=64)).save_pretrained(other)
    adapter = make_adapter(other, tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"made for another model \(.*gpt2\): it changes 'transformer\.h\.0"):
        load_model(tiny_folder("llama"), adapter=adapter)


def test_an_adapter_of_another_size_is_refused(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    other = tmp_path / "wide"
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=2, vocab_size=64)).save_pretrained(other)
    adapter = make_adapter(other, tmp_path / "adapter")
    with pytest.raises(ModelError, match="has width 64 there and 48 in"):
        load_model(tiny_folder("llama"), adapter=adapter)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no config", "has no adapter_config.json"),
        ("bad config", "not valid JSON"),
        ("no weights", "has no adapter_model"),
    ],
)
def test_a_broken_adapter_folder_is_said(damage: str, message: str, tiny_folder: TinyFolder, tmp_path: Path) -> None:
    adapter = make_adapter(tiny_folder("llama"), tmp_path / "adapter")
    if damage == "no config":
        (adapter / "adapter_config.json").unlink()
    elif damage == "bad config":
        (adapter / "adapter_config.json").write_text("{")
    else:
        (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=message):
        load_model(tiny_folder("llama"), adapter=adapter)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("config", "it has no config.json"),
        ("weights", "it has no weights as safetensors"),
        ("tokenizer", "it has no tokenizer"),
        ("cut", "is truncated or corrupt; download or copy the model again"),
        ("header", "is not a readable safetensors file"),
        ("architecture", "is not usable"),
    ],
)
def test_a_broken_model_folder_is_said(damage: str, message: str, tiny_folder: TinyFolder, tmp_path: Path) -> None:
    folder = copy(tiny_folder("llama"), tmp_path / "model")
    weights = folder / "model.safetensors"
    if damage == "config":
        (folder / "config.json").unlink()
    elif damage == "weights":
        weights.unlink()
    elif damage == "tokenizer":
        (folder / "tokenizer.json").unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "header":
        weights.write_bytes(b"\xff" * 64)
    else:
        (folder / "config.json").write_text(json.dumps({"model_type": "no-such-type"}))
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_weights_that_are_missing_are_not_made_up(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    folder = copy(tiny_folder("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"lacks 9 of its weights"):
        load_model(folder)


def test_a_tokenizer_of_another_model_is_refused_and_one_token_more_is_not(
    tiny_folder: TinyFolder, tmp_path: Path
) -> None:
    folder = copy(tiny_folder("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    rows = config["vocab_size"]
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": rows - 1}))
    assert len(load_tokenizer(folder)) == rows
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": rows - 200}))
    with pytest.raises(ModelError, match=f"has token {rows - 1} but the model has {rows - 200} rows"):
        load_tokenizer(folder)


def test_a_missing_pad_token_is_the_end_of_sequence(tiny_folder: TinyFolder) -> None:
    tokenizer = load_tokenizer(tiny_folder("llama"))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    gemma = load_tokenizer(tiny_folder("gemma2"))
    assert gemma.pad_token_id != gemma.eos_token_id


def test_a_model_larger_than_memory_is_refused(tiny_folder: TinyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 1000

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory)
    with pytest.raises(ModelError, match=r"needs 383 kB|needs \d+ kB for its weights but 1 kB of cpu memory is free"):
        load_model(tiny_folder("llama"))


def test_dtypes_and_devices(monkeypatch: pytest.MonkeyPatch, tiny_folder: TinyFolder) -> None:
    cpu = resolve_device("cpu")
    assert resolve_dtype("auto", cpu) == torch.float32
    assert load_model(tiny_folder("llama"), dtype="bf16", device="cpu").dtype == torch.bfloat16
    for flags, warned in ((frozenset({"avx512_bf16"}), 0), (frozenset({"avx2"}), 1)):
        monkeypatch.setattr(load, "cpu_features", lambda flags=flags: flags)
        console = Console(quiet=True)
        assert resolve_dtype("bf16", cpu, console) == torch.bfloat16
        assert len(console.warnings) == warned
    with pytest.raises(UsageError, match="Unknown dtype"):
        resolve_dtype("fp8", cpu)
    with pytest.raises(UsageError, match="Unknown device"):
        resolve_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_that_is_not_there_is_said() -> None:
    with pytest.raises(UsageError, match="torch finds no CUDA device; use --device cpu"):
        resolve_device("cuda")


def test_tiny_models_differ_by_seed_and_not_by_call() -> None:
    first, again, other = tiny_model("llama", 0), tiny_model("llama", 0), tiny_model("llama", 1)
    with torch.no_grad():
        assert torch.equal(first(IDS).logits, again(IDS).logits)
        assert not torch.equal(first(IDS).logits, other(IDS).logits)
