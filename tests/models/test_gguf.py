"""GGUF conversion against the ``gguf`` package's own dequantisation and the tokenizer the file was written from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dasd_bench.console import Console
from dasd_bench.errors import ModelError
from dasd_bench.models.gguf import convert_gguf, read_gguf_facts
from dasd_bench.models.load import load_model, load_tokenizer
from tests.models.tiny_gguf import TEMPLATE, write_tiny_gguf
from tests.tiny_models import TEXT, tiny_tokenizer


def convert(tmp_path: Path, pre: str = "smollm") -> tuple[Path, dict[str, np.ndarray], Console]:
    expected = write_tiny_gguf(tmp_path / "tiny.gguf", pre=pre)
    console = Console(stream=io.StringIO())
    (tmp_path / "model").mkdir()
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model", console)
    return tmp_path / "model", expected, console


def smollm_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer written into the file, with the split that SmolLM's own tokenizer.json has."""
    tokenizer = tiny_tokenizer("llama")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


def test_weights_are_the_dequantised_values_to_the_bit(tmp_path: Path) -> None:
    folder, expected, _ = convert(tmp_path)
    saved = load_file(folder / "model.safetensors")
    assert sorted(saved) == sorted(expected)
    for name, weight in expected.items():
        assert saved[name].dtype == np.float32
        np.testing.assert_array_equal(saved[name], weight, err_msg=name)


def test_the_converted_model_loads_and_keeps_tied_embeddings(tmp_path: Path) -> None:
    folder, expected, _ = convert(tmp_path)
    model = load_model(folder)
    assert not hasattr(model.config, "quantization_config")
    logits = model(torch.tensor([[5, 6, 7]])).logits
    hidden = model.model(torch.tensor([[5, 6, 7]])).last_hidden_state
    head = torch.from_numpy(expected["model.embed_tokens.weight"])
    torch.testing.assert_close(logits, hidden @ head.T)


def test_the_tokenizer_splits_as_the_one_it_was_written_from(tmp_path: Path) -> None:
    folder, _, console = convert(tmp_path)
    ours, reference = load_tokenizer(folder), smollm_tokenizer()
    for text in [*TEXT, "x\n\n1. Add  23 \n\n 4", "<|start_header_id|>user<|end_header_id|>"]:
        wanted = reference(text, add_special_tokens=False)["input_ids"]
        assert ours(text)["input_ids"] == wanted, text
    assert ours.chat_template == TEMPLATE
    assert console.warnings == []


def test_the_plain_split_would_be_wrong_before_numbers(tmp_path: Path) -> None:
    """The reason for the restored split: without it the blank line before a number is two tokens, not one."""
    from transformers import AutoTokenizer

    write_tiny_gguf(tmp_path / "tiny.gguf")
    as_transformers_reads_it = AutoTokenizer.from_pretrained(tmp_path, gguf_file="tiny.gguf")
    ids = as_transformers_reads_it("x\n\n1")["input_ids"]
    assert ids != smollm_tokenizer()("x\n\n1", add_special_tokens=False)["input_ids"]


def test_an_unknown_split_rule_is_said(tmp_path: Path) -> None:
    _, _, console = convert(tmp_path, pre="some-new-rule")
    assert len(console.warnings) == 1
    assert "some-new-rule" in console.warnings[0]


@pytest.mark.parametrize("damage", ["not gguf", "cut"])
def test_a_broken_file_is_one_sentence(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_gguf(path)
    path.write_bytes(b"no" * 100 if damage == "not gguf" else path.read_bytes()[:200])
    with pytest.raises(ModelError, match=r"tiny.gguf' is not a readable GGUF file; download or copy it again\."):
        read_gguf_facts(path)
