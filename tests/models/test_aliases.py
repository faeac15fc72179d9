"""The alias table and the user's own file over it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dasd_bench.errors import UsageError
from dasd_bench.models.aliases import BUILT_IN, KINDS, load_aliases


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "models.yaml"
    monkeypatch.setenv("DASD_MODELS_FILE", str(path))
    return path


def test_the_papers_families_are_there_base_and_instruct_apart() -> None:
    pairs = ["llama3-8b", "llama3.1-8b", "llama3.2-1b", "llama3.2-3b", "gemma2-2b", "gemma2-9b", "gemma3-1b"]
    pairs += [f"qwen3-{size}" for size in ("0.6b", "1.7b", "4b", "8b", "14b")]
    pairs += [f"smollm2-{size}" for size in ("135m", "360m", "1.7b")]
    for name in pairs:
        assert BUILT_IN[name].kind == "instruct"
        assert BUILT_IN[f"{name}-base"].kind == "base"
        assert BUILT_IN[name].hub_id != BUILT_IN[f"{name}-base"].hub_id
    assert BUILT_IN["llama3-8b"].hub_id == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert BUILT_IN["qwen3-4b"].thinking
    assert BUILT_IN["gemma3-270m"].kind == "base"


def test_every_row_is_complete_and_names_are_unique() -> None:
    hubs = [alias.hub_id for alias in BUILT_IN.values()]
    assert len(set(hubs)) == len(hubs)
    for name, alias in BUILT_IN.items():
        assert name == alias.name == name.lower()
        assert alias.kind in KINDS
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", alias.hub_id or "")
        assert alias.parameters_billion > 0
        assert alias.licence
        assert (alias.consent is not None) == (alias.licence == "Gemma terms" and alias.wheel is not None)
        # The size in the name is the size in the table, to the rounding of the name.
        size, unit = re.search(r"-(\d+(?:\.\d+)?)([mb])", name).groups()  # type: ignore[union-attr]
        assert alias.parameters_billion == pytest.approx(float(size) / (1000 if unit == "m" else 1), rel=0.35)


def test_a_users_entry_adds_and_overrides(table: Path) -> None:
    table.write_text("mine: {kind: base, path: /models/mine}\nllama3-8b: {hub_id: mirror/llama}\n")
    aliases = load_aliases()
    assert aliases["mine"].path == "/models/mine"
    assert aliases["mine"].kind == "base"
    assert aliases["llama3-8b"].hub_id == "mirror/llama"
    assert aliases["llama3-8b"].kind == "instruct"
    assert aliases["qwen3-4b"] == BUILT_IN["qwen3-4b"]


def test_the_users_config_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DASD_MODELS_FILE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert load_aliases() == BUILT_IN
    (tmp_path / "dasd-bench").mkdir()
    (tmp_path / "dasd-bench" / "models.yaml").write_text("mine: {kind: base, hub_id: me/mine}\n")
    assert load_aliases()["mine"].hub_id == "me/mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "a mapping of names to values is expected"),
        ("mine: 3\n", "must map each model name"),
        ("mine: {kind: [\n", "not valid YAML"),
        ("mine: {hub_id: a/b}\n", "needs 'kind: base' or 'kind: instruct'"),
        ("mine: {kind: chat, hub_id: a/b}\n", "needs 'kind: base' or 'kind: instruct'"),
        ("mine: {kind: base}\n", "needs a source"),
        ("mine: {kind: base, hubid: a/b}\n", "Did you mean 'hub_id'"),
        ("mine: {kind: base, wheel: {requirements: [a]}}\n", "wheel needs 'requirements'"),
        ("mine: {kind: base, hub_id: a/b, parameters_billion: big}\n", "must be a number"),
    ],
)
def test_a_wrong_file_is_one_sentence_that_names_it(table: Path, text: str, message: str) -> None:
    table.write_text(text)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        load_aliases()
    assert str(table) in str(caught.value)


def test_a_named_file_that_is_not_there_is_said(table: Path) -> None:
    with pytest.raises(UsageError, match=r"DASD_MODELS_FILE names .* which is not a file"):
        load_aliases()
