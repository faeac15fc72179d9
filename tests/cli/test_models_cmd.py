"""``models list``, ``models fetch`` and ``doctor`` through the command line, with exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dasd_bench.cli.main import run_cli
from dasd_bench.models.aliases import BUILT_IN


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("DASD_MODELS_FILE", raising=False)
    monkeypatch.delenv("DASD_ACCEPT_LICENCE", raising=False)


def test_list_shows_every_name_with_its_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, alias in BUILT_IN.items():
        (line,) = [line for line in lines if line.split()[0] == name]
        assert f" {alias.kind} " in line
    assert run_cli(["models", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(BUILT_IN)


def test_list_and_help_import_no_torch() -> None:
    code = (
        "import sys; from dasd_bench.cli.main import run_cli; run_cli(sys.argv[1:]); "
        "bad = {'torch', 'transformers'} & set(sys.modules); assert not bad, bad"
    )
    for arguments in (["models", "list"], ["models", "--help"], ["doctor", "--help"]):
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)


def test_fetch_says_where_a_model_lies(tiny_folder: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_folder("llama")
    assert run_cli(["models", "fetch", str(folder)]) == 0
    assert str(folder) in capsys.readouterr().out
    assert run_cli(["models", "fetch", str(folder), "--json"]) == 0
    event = json.loads(capsys.readouterr().out)
    assert event["path"] == str(folder.resolve())
    assert len(event["sha256"]) == 64


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["smollm2-135"], 2, "Did you mean 'smollm2-135m'?"),
        (["./no-folder"], 2, "does not exist"),
        (["llama3-8b", "--offline"], 1, "--offline disables the hub"),
        (["gemma3-270m"], 1, "--accept-licence gemma"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["models", "fetch", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_doctor_reports_every_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data" / "gsm8k"
    data.mkdir(parents=True)
    (data / "train.jsonl").write_text("{}\n")
    monkeypatch.setenv("DASD_DATA_DIR", str(data.parent))
    assert run_cli(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert {finding["section"] for finding in findings} == {"versions", "machine", "compute", "sandbox", "offline"}
    found = {finding["name"]: finding for finding in findings}
    assert found["python"]["value"].startswith(".".join(map(str, sys.version_info[:3])))
    assert "GFLOP/s" in found["fp32"]["value"]
    assert found["models on disk"]["value"] == "none"
    assert "models fetch smollm2-135m" in found["models on disk"]["advice"]
    assert "gsm8k" in found["DASD_DATA_DIR"]["value"]


def test_doctor_is_plain_when_piped_and_ends_with_zero(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASD_DATA_DIR", "/nonexistent")
    assert run_cli(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "─" not in text
    assert "DASD_DATA_DIR: it contains no <dataset>/<split>.jsonl" in text


def test_doctor_says_what_a_model_needs_that_is_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["doctor", "--model", "qwen3-14b", "--dtype", "fp32", "--device", "cpu", "--json"]) == 0
    found = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert found["model"]["value"] == "14.77B parameters, 40 layers, fp32 on cpu"
    assert found["weights"]["value"] == "55.0 GiB"
    training = next(finding for name, finding in found.items() if name.startswith("LoRA training"))
    assert " on disk" in training["value"]
    assert any(name.startswith("generation") for name in found)
    assert "GFLOP/s" in found["assumed"]["value"]
    assert run_cli(["doctor", "--model", "nova-9b"]) == 2
    assert "Unknown model 'nova-9b'" in capsys.readouterr().err


def test_a_dry_run_plans_a_model_that_is_not_here(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small = ["--tasks", "mini_arc", "--train-limit", "4", "--limit", "2", "--offline", "-o", str(tmp_path / "run")]
    arguments = ["run", "--model", "llama3-8b", "--method", "sft", *small, "--dtype", "bf16", "--dry-run", "--json"]
    assert run_cli(arguments) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (event,) = [event for event in events if "plan" in event]
    assert event["model_missing"] is True
    rows = {(row["kind"], row["arm"]): row for row in event["plan"]}
    assert {kind for kind, _ in rows} == {"targets", "scores", "train", "evaluate", "nll"}
    # 8.03 billion weights of two bytes, in every stage that runs the model.
    assert all(row["memory_gib"] > 14.9 for row in event["plan"] if row["kind"] != "targets")
    # Reading 16 GB alone takes longer than the 0.3 s of an estimate by tokens.
    assert rows["train", "sft"]["seconds"] > 10
