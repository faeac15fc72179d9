"""Model cards, read back with the hub's own loader."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from huggingface_hub import ModelCard, ModelCardData, metadata_load

from benchmarks.made_run import Size, make_run
from dasd_bench.cli.export_cmd import export_command, hub_names
from dasd_bench.errors import DasdError, UsageError
from dasd_bench.results.runs import load_run
from dasd_bench.results.schema import RunResults


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = make_run(tmp_path / "alpha", Size(examples=4, tokens=8, items=20, steps=3))
    for arm in ("sft", "dasd+tau=0.5"):
        for seed in (0, 1):
            folder = path / "arms" / arm / f"seed{seed}" / "adapter"
            folder.mkdir()
            (folder / "adapter_model.safetensors").write_bytes(b"weights")
            (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "smollm2-135m", "r": 16}')
    return path


def export(*args: object) -> str:
    result = CliRunner().invoke(export_command, [str(arg) for arg in args])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_hubs_loader_reads_every_card(run: Path) -> None:
    out = export(run, "--to", "hf-card")
    cards = sorted(run.rglob("README.md"))
    assert len(cards) == 4
    assert out.count("Wrote ") == 4
    results = load_run(run)
    for path in cards:
        card = ModelCard.load(path, ignore_metadata_errors=False)
        assert isinstance(card.data, ModelCardData)
        assert card.data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
        assert card.data.license == "apache-2.0"
        assert card.data.library_name == "peft"
        assert card.data.datasets is not None
        assert "openai/gsm8k" in card.data.datasets
        _, label, seed = path.parent.parent.relative_to(run).parts
        arm = next(arm for arm in results.arms if arm.label == label)
        scores = next(one for one in arm.seeds if f"seed{one.seed}" == seed).scores
        assert card.data.eval_results is not None
        assert {one.dataset_name: one.metric_value for one in card.data.eval_results} == {
            name: score.mean for name, score in scores.items()
        }
        raw = metadata_load(path)
        assert raw is not None
        assert raw["model-index"][0]["results"][0]["task"] == {"type": "text-generation"}


def test_the_card_says_what_a_reader_needs(run: Path) -> None:
    export(run, "--row", "dasd+tau=0.5", "--seed", 1)
    (path,) = run.rglob("README.md")
    text = path.read_text(encoding="utf-8")
    for words in (
        "dasd-bench run --method sft,low-ppl",
        "confidence-gate",
        "| **",
        "minimum\n  detectable difference",
        "One of 2 seeds",
        "Effects on other tasks were measured on arc_challenge.",
        "PeftModel.from_pretrained",
        "not comparable with lm-eval",
    ):
        assert words in text
    assert "\n\n\n\n" not in text


def test_a_copy_is_ready_to_upload(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(run, "--row", "sft", "--seed", 0, "-o", out)
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((out / "adapter_config.json").read_text())
    assert config == {"base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct", "r": 16}
    export(run, "-o", tmp_path / "all")
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [
        "dasd+tau=0.5-seed0",
        "dasd+tau=0.5-seed1",
        "sft-seed0",
        "sft-seed1",
    ]


def test_partial_runs_say_so(run: Path) -> None:
    results = RunResults.load(run)
    results.arms[-1].seeds = []
    results.save(run)
    (run / "manifest.json").unlink()
    assert "partial" in export(run, "--row", "sft", "--seed", 0)
    (path,) = run.rglob("README.md")
    assert "Unfinished run" in path.read_text(encoding="utf-8")


def test_errors(run: Path, build: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'sft'"):
        export(run, "--row", "stf")
    with pytest.raises(UsageError, match="no finished seed 7; its seeds are 0, 1"):
        export(run, "--seed", 7)
    with pytest.raises(DasdError, match="has no adapter"):
        export(build.write(tmp_path, build.run("none")))
    with pytest.raises(DasdError, match="was cancelled"):
        export(build.write(tmp_path, build.run("stopped", status="cancelled")))


def test_names_on_the_hub(build: SimpleNamespace) -> None:
    def model(name: str) -> str | None:
        results: RunResults = build.run(model=name)
        return hub_names(results).model

    assert model("someone/their-model") == "someone/their-model"
    assert model("/a/local/folder") is None
    assert model("plain-folder") is None
