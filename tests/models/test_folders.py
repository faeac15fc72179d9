"""Model folders that are damaged, odd or swapped: one sentence that names the file, and never an old hash."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.console import Console
from dasd_bench.errors import DasdError, ModelError
from dasd_bench.models.chat import ChatTemplate
from dasd_bench.models.files import HashNotes, read_safetensors_header, stop_token_ids
from dasd_bench.models.load import load_model, load_tokenizer
from dasd_bench.models.resolve import resolve_model
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model("llama", tmp_path_factory.mktemp("whole") / "model")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "model")
    return tmp_path / "model"


def use(folder: Path, cache: Path) -> None:
    """What a run does with a model folder before anything else."""
    model = resolve_model(str(folder), cache_dir=cache, console=Console(quiet=True))
    ChatTemplate(load_tokenizer(model.path))
    stop_token_ids(model.path)
    load_model(model.path, dtype="fp32", device="cpu")


def change(folder: Path, name: str, **entries: Any) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def with_index(folder: Path, weight_map: Any) -> None:
    (folder / "model.safetensors").rename(folder / "part-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def header_of(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    text = json.dumps(edit(json.loads(data[8 : 8 + length]))).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def first_tensor(**entries: Any) -> Callable[[dict[str, Any]], Any]:
    def edit(header: dict[str, Any]) -> Any:
        name = next(name for name in header if name != "__metadata__")
        return header | {name: header[name] | entries}

    return edit


def folder_instead(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()


# What is done to the folder, and what the sentence must name.
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "config empty": (lambda f: (f / "config.json").write_text(""), "config.json"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "config.json"),
    "config null": (lambda f: (f / "config.json").write_text("null"), "config.json"),
    "config deep": (lambda f: (f / "config.json").write_text("[" * 200_000), "config.json"),
    "config bytes": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json"),
    "config long number": (lambda f: (f / "config.json").write_text('{"a": ' + "9" * 5000 + "}"), "config.json"),
    "config a folder": (lambda f: folder_instead(f, "config.json"), "config.json"),
    "config a dangling link": (lambda f: ((f / "config.json").unlink(), (f / "config.json").symlink_to("x")), "config"),
    "config without a type": (lambda f: (f / "config.json").write_text("{}"), "config.json"),
    "vocab_size text": (lambda f: change(f, "config.json", vocab_size="abc"), "config.json.*vocab_size"),
    "layers negative": (lambda f: change(f, "config.json", num_hidden_layers=-1), "config.json.*num_hidden_layers"),
    "layers a float": (lambda f: change(f, "config.json", num_hidden_layers=2.5), "config.json.*num_hidden_layers"),
    "layers true": (lambda f: change(f, "config.json", num_hidden_layers=True), "config.json.*num_hidden_layers"),
    "layers many": (lambda f: change(f, "config.json", num_hidden_layers=10**9), "config.json.*1000000000 layers"),
    "heads zero": (lambda f: change(f, "config.json", num_attention_heads=0), "config.json.*num_attention_heads"),
    "context text": (lambda f: change(f, "config.json", max_position_embeddings="8k"), "config.json.*max_position"),
    "heads do not divide": (lambda f: change(f, "config.json", num_attention_heads=5), "config.json"),
    "model_type unknown": (lambda f: change(f, "config.json", model_type="zzz"), "config.json"),
    "model_type a list": (lambda f: change(f, "config.json", model_type=["llama"]), "config.json.*model_type"),
    "encoder and decoder": (lambda f: change(f, "config.json", model_type="t5", architectures=["T5"]), "T5, which"),
    "text_config a list": (lambda f: change(f, "config.json", text_config=[1]), "config.json.*text_config"),
    "activation unknown": (lambda f: change(f, "config.json", hidden_act="zzz"), "config.json"),
    "rope a text": (lambda f: change(f, "config.json", rope_parameters="zzz"), "config.json"),
    "eos a text": (lambda f: change(f, "generation_config.json", eos_token_id="</s>"), "eos_token_id"),
    "generation_config a list": (lambda f: (f / "generation_config.json").write_text("[]"), "generation_config.json"),
    "tokenizer empty": (lambda f: (f / "tokenizer.json").write_text(""), "tokenizer.json"),
    "tokenizer a list": (lambda f: (f / "tokenizer.json").write_text("[]"), "tokenizer"),
    "tokenizer of nothing": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer"),
    "tokenizer a folder": (lambda f: folder_instead(f, "tokenizer.json"), "tokenizer.json"),
    "tokenizer_config a list": (lambda f: (f / "tokenizer_config.json").write_text("[1]"), "tokenizer_config.json"),
    "tokenizer_config garbage": (lambda f: (f / "tokenizer_config.json").write_text("{{"), "tokenizer_config.json"),
    "template a number": (lambda f: (f / "chat_template.jinja").write_bytes(b"\xff\xff"), "tokenizer"),
    "weights empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "model.safetensors"),
    "weights cut": (lambda f: os.truncate(f / "model.safetensors", 5000), "model.safetensors"),
    "weights longer": (lambda f: os.truncate(f / "model.safetensors", 10**7), "model.safetensors"),
    "weights a folder": (lambda f: folder_instead(f, "model.safetensors"), "safetensors"),
    "header too long": (
        lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}"),
        "model.safetensors",
    ),
    "header a list": (lambda f: header_of(f, lambda _: []), "model.safetensors"),
    "header empty": (lambda f: header_of(f, lambda _: {}), "model.safetensors"),
    "entry a number": (lambda f: header_of(f, lambda h: h | {"x": 1}), "model.safetensors"),
    "shape lies": (lambda f: header_of(f, first_tensor(shape=[1, 1])), "model.safetensors"),
    "shape negative": (lambda f: header_of(f, first_tensor(shape=[-1, -1])), "model.safetensors"),
    "shape text": (lambda f: header_of(f, first_tensor(shape="ab")), "model.safetensors"),
    "offsets text": (lambda f: header_of(f, first_tensor(data_offsets=["a", "b"])), "model.safetensors"),
    "offsets turned": (lambda f: header_of(f, first_tensor(data_offsets=[10, 0])), "model.safetensors"),
    "dtype unknown": (lambda f: header_of(f, first_tensor(dtype="Q7")), "model"),
    "dtype a list": (lambda f: header_of(f, first_tensor(dtype=["F32"])), "model.safetensors"),
    "tensor renamed": (
        lambda f: header_of(f, lambda h: {f"x{n}": e for n, e in h.items() if n[0] != "_"}),
        "lacks .* weights",
    ),
    "index of nothing": (lambda f: with_index(f, {}), "model.safetensors.index.json"),
    "index a list": (lambda f: with_index(f, ["part-1.safetensors"]), "model.safetensors.index.json"),
    "index names a number": (lambda f: with_index(f, {"a": 1}), "model.safetensors.index.json"),
    "index names a missing file": (lambda f: with_index(f, {"a": "part-2.safetensors"}), "part-2.safetensors"),
    "index goes up": (lambda f: with_index(f, {"a": "../part-1.safetensors"}), "index.json"),
    "index is absolute": (lambda f: with_index(f, {"a": str(f / "part-1.safetensors")}), "index.json"),
    "index names a NUL": (lambda f: with_index(f, {"a": "a\0.safetensors"}), "index.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_one_sentence_that_names_the_file(name: str, folder: Path, tmp_path: Path) -> None:
    damage, said = DAMAGE[name]
    damage(folder)
    with pytest.raises(ModelError, match=said) as caught:
        use(folder, tmp_path / "cache")
    assert len(str(caught.value)) < 900
    assert "\n" not in str(caught.value)


def test_a_whole_folder_and_one_with_an_index_are_used(folder: Path, tmp_path: Path) -> None:
    use(folder, tmp_path / "cache")
    names = read_safetensors_header(folder / "model.safetensors")
    with_index(folder, dict.fromkeys(names, "part-1.safetensors"))
    use(folder, tmp_path / "cache")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").chmod(0)
    with pytest.raises(ModelError, match=r"model.safetensors' cannot be read \(Permission denied\)"):
        use(folder, tmp_path / "cache")


def test_flipped_bytes_never_end_in_an_error_of_another_kind(whole: Path, tmp_path: Path) -> None:
    """A fuzz with a fixed seed: some bytes of a text file or of a header are changed; a sentence or a working model."""
    rng = random.Random(7)
    names = ["config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json", "model.safetensors"]
    for case in range(40):
        folder = tmp_path / f"case-{case}"
        shutil.copytree(whole, folder)
        path = folder / rng.choice(names)
        data = bytearray(path.read_bytes())
        for _ in range(rng.choice([1, 3, 30])):
            data[rng.randrange(min(len(data), 3000))] = rng.randrange(256)
        path.write_bytes(data)
        with contextlib.suppress(DasdError):
            use(folder, tmp_path / "cache")
        shutil.rmtree(folder)


def test_a_file_swapped_at_equal_size_and_time_is_hashed_again(folder: Path, tmp_path: Path) -> None:
    """As cp -p, rsync and tar do: size and modification time are kept."""
    notes = HashNotes(tmp_path / "cache", Console(quiet=True))
    path = folder / "model.safetensors"
    before, status = notes.folder_sha256(folder), path.stat()
    assert notes.folder_sha256(folder) == before
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    other = tmp_path / "other"
    other.write_bytes(data)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    shutil.copy2(other, path)
    changed = notes.folder_sha256(folder)
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert changed != before
    data[-1] ^= 1
    other.write_bytes(data)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)
    assert notes.folder_sha256(folder) == before


@pytest.mark.parametrize(
    "damage", ["", "[]", '{"files": {"config.json": [1, 2]}}', '{"files": {"a": [1, 1, 1, 1, 5]}}']
)
def test_a_damaged_note_is_made_again(damage: str, folder: Path, tmp_path: Path) -> None:
    notes = HashNotes(tmp_path / "cache", Console(quiet=True))
    before = notes.folder_sha256(folder)
    (note,) = (tmp_path / "cache" / "hashes").iterdir()
    note.write_text(damage)
    assert notes.folder_sha256(folder) == before


def test_decoding_stops_where_transformers_stops(folder: Path) -> None:
    """The list of end tokens is in generation_config.json, else in config.json (of the text model, too)."""
    from transformers import AutoModelForCausalLM

    def of_transformers() -> set[int]:
        found = AutoModelForCausalLM.from_pretrained(folder).generation_config.eos_token_id
        return set(found if isinstance(found, list) else [found])

    change(folder, "config.json", eos_token_id=[1, 4])
    change(folder, "generation_config.json", eos_token_id=[2, 3])
    assert stop_token_ids(folder) == {2, 3} == of_transformers()
    (folder / "generation_config.json").unlink()
    assert stop_token_ids(folder) == {1, 4} == of_transformers()
    change(folder, "config.json", eos_token_id=7)
    assert stop_token_ids(folder) == {7} == of_transformers()
    change(folder, "config.json", eos_token_id=None, text_config={"eos_token_id": [8, 9]})
    assert stop_token_ids(folder) == {8, 9}
