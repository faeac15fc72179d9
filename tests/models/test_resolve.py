"""Names to folders: the order of sources, hashes that are kept, and what is refused."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dasd_bench.console import Console
from dasd_bench.errors import ModelError, UsageError
from dasd_bench.models import files
from dasd_bench.models.files import HashNotes, format_bytes, missing_parts, stored_dtype, user_cache_dir
from dasd_bench.models.resolve import plan_model, resolve_model

TinyFolder = Callable[[str], Path]
QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DASD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("DASD_MODELS_FILE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: TinyFolder) -> Path:
    """A hub cache laid out as huggingface_hub does, with one whole snapshot of a model; gives the snapshot."""
    root = tmp_path / "hub"
    repo = root / "models--meta-llama--Meta-Llama-3-8B-Instruct"
    snapshot = repo / "snapshots" / "0123abc"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0123abc")
    shutil.copytree(tiny_folder("llama"), snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(root))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(root))
    return snapshot


def test_a_local_folder_is_itself(tiny_folder: TinyFolder) -> None:
    folder = tiny_folder("qwen3")
    model = resolve_model(str(folder), console=QUIET, offline=True)
    assert model.path == folder.resolve()
    assert (model.kind, model.licence, model.dtype) == ("unknown", "unknown", "fp32")
    assert plan_model(str(folder)).cached


def test_the_hash_follows_the_content_and_not_the_place(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    folder = tiny_folder("qwen3")
    first = resolve_model(str(folder), console=QUIET).sha256
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    assert resolve_model(str(moved), console=QUIET).sha256 == first
    (moved / "README.md").write_text("unrelated")
    assert resolve_model(str(moved), console=QUIET).sha256 == first
    with (moved / "chat_template.jinja").open("a") as file:
        file.write(" ")
    assert resolve_model(str(moved), console=QUIET).sha256 != first


def test_hashes_are_kept_until_size_or_time_changes(
    tiny_folder: TinyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(tiny_folder("qwen3"), tmp_path / "model"))
    read: list[str] = []
    real = files.file_sha256
    monkeypatch.setattr(files, "file_sha256", lambda path: read.append(path.name) or real(path))
    first = resolve_model(str(folder), console=QUIET).sha256
    assert "model.safetensors" in read
    read.clear()
    assert resolve_model(str(folder), console=QUIET).sha256 == first
    assert read == []
    os.utime(folder / "config.json", (1, 1))
    assert resolve_model(str(folder), console=QUIET).sha256 == first
    assert read == ["config.json"]


def test_hub_blobs_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"weights")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    assert HashNotes(tmp_path / "cache", QUIET).files(tmp_path, [link]) == {"model.safetensors": "ab" * 32}


def test_a_whole_snapshot_of_the_hub_cache_is_used(hub_cache: Path) -> None:
    model = resolve_model("llama3-8b", console=QUIET, offline=True)
    assert model.path == hub_cache
    assert model.kind == "instruct"
    assert model.source == "hub cache: meta-llama/Meta-Llama-3-8B-Instruct@0123abc"
    assert resolve_model("meta-llama/Meta-Llama-3-8B-Instruct", console=QUIET, offline=True).sha256 == model.sha256
    assert plan_model("llama3-8b").cached


def test_a_partial_snapshot_is_not(hub_cache: Path) -> None:
    (hub_cache / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model.safetensors", "b": "other.safetensors"}}'
    )
    # A whole model.safetensors is what transformers loads, whatever the index says.
    assert missing_parts(hub_cache) is None
    (hub_cache / "model.safetensors").rename(hub_cache / "first.safetensors")
    (hub_cache / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "first.safetensors", "b": "other.safetensors"}}'
    )
    assert missing_parts(hub_cache) == "other.safetensors"
    assert not plan_model("llama3-8b").cached
    with pytest.raises(ModelError, match="--offline disables the hub: run 'dasd-bench models fetch llama3-8b'"):
        resolve_model("llama3-8b", console=QUIET, offline=True)


def test_offline_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ModelError, match="--offline disables the hub"):
        resolve_model("qwen3-4b", console=QUIET, offline=True)
    assert not plan_model("qwen3-4b").cached


def test_a_hub_out_of_reach_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def no_network(*arguments: object, **options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(ModelError, match="The hub cannot be reached to download 'Qwen/Qwen3-4B': check the network"):
        resolve_model("qwen3-4b", console=QUIET)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smollm-135m", "Unknown model 'smollm-135m'. Did you mean 'smollm2-135m'?"),
        ("./nowhere", "'nowhere' does not exist"),
        ("nowhere.gguf", "'nowhere.gguf' does not exist"),
    ],
)
def test_a_name_that_means_nothing_is_a_usage_error(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_model(name, console=QUIET)
    assert message in str(caught.value)
    with pytest.raises(UsageError):
        plan_model(name)


def test_pickled_weights_are_refused(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder("llama"), tmp_path / "model"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickle files \(.bin\), which can run code: convert them to safetensors"):
        resolve_model(str(folder), console=QUIET)


def test_a_path_of_the_users_table_wins(
    tiny_folder: TinyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "models.yaml"
    table.write_text(f"qwen3-4b: {{path: {tiny_folder('qwen3')}}}\n")
    monkeypatch.setenv("DASD_MODELS_FILE", str(table))
    model = resolve_model("qwen3-4b", console=QUIET, offline=True)
    assert model.path == tiny_folder("qwen3").resolve()
    assert model.kind == "instruct"


def test_an_unwritable_cache_costs_only_time(tiny_folder: TinyFolder, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    model = resolve_model(str(tiny_folder("llama")), console=QUIET, cache_dir=blocked / "cache")
    assert len(model.sha256) == 64


def test_stored_dtype_is_read_from_the_header(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file(
        {"a": torch.zeros(2, dtype=torch.bfloat16), "b": torch.zeros(2, dtype=torch.bfloat16)},
        tmp_path / "model.safetensors",
    )
    assert stored_dtype(tmp_path) == "bf16"


def test_sizes_are_readable() -> None:
    assert [format_bytes(n) for n in (12, 98_362_432, 999_700, 16e9)] == ["12 B", "98 MB", "1 MB", "16.0 GB"]


def test_without_a_home_folder_the_cache_is_a_private_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("HOME", "XDG_CACHE_HOME", "DASD_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = user_cache_dir()
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert user_cache_dir() == folder
    folder.chmod(0o777)
    with pytest.raises(ModelError, match="DASD_CACHE_DIR"):
        user_cache_dir()


@pytest.mark.parametrize(
    ("code", "reason", "token", "sentence"),
    [
        (401, "GatedRepo", None, "is gated: accept its licence at https://huggingface.co/meta-llama/"),
        (403, "GatedRepo", "hf_x", "is gated: the token in use is not valid or its account has no access"),
        (403, "", "hf_x", r"refused access to .* \(403\): the token in use is not valid"),
        (500, "", None, "answered 500 .* try again later"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(
    code: int, reason: str, token: str | None, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's library against a server that refuses as the hub does."""

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.send_header("X-Error-Code", reason)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr("huggingface_hub.get_token", lambda: token)
        try:
            with pytest.raises(ModelError, match=sentence) as caught:
                resolve_model("llama3-8b", console=QUIET)
        finally:
            server.shutdown()
            thread.join()
    assert "\n" not in str(caught.value)


def test_a_hub_id_of_the_table_keeps_its_size_and_its_licence() -> None:
    found = plan_model("meta-llama/Meta-Llama-3-8B-Instruct")
    assert found.fetch_bytes == plan_model("llama3-8b").fetch_bytes
    assert "gated" in found.sentence()
    assert "gated" not in plan_model("qwen3-8b").sentence()


def test_a_disabled_hub_names_what_disabled_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE disables the hub: .* a login node with the same HF_HOME"):
        resolve_model("llama3-8b", console=QUIET)
