"""``check``: published claims against runs whose every number is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dasd_bench.cli.main import run_cli
from dasd_bench.config.spec import PRESETS, read_file, resolve
from dasd_bench.errors import UsageError
from dasd_bench.reporting.replication import FOLDER, Claim, check, find_replication, read_replication
from dasd_bench.results.schema import RunResults
from tests.made_results import make_arm, make_score, make_task

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / FOLDER).glob("*.yaml"))

TEXT = """\
title: Two rows
source: a paper, Table 1
notes: [A note.]
run: {model: smollm2-135m, methods: [sft, dasd], tasks: [gsm8k]}
claims:
  - {row: sft, task: gsm8k, rule: lower, expected: -0.3}
  - {row: dasd, task: gsm8k, rule: not-lower, margin: 0.2, expected: 0.0}
  - {row: dasd, against: sft, task: gsm8k, rule: higher, expected: 0.3}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two-rows.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def results(sft: str, dasd: str, base: str = "1" * 30 + "0" * 10) -> RunResults:
    arms = [make_arm(name, {0: {"gsm8k": make_score(bits)}}) for name, bits in (("sft", sft), ("dasd", dasd))]
    return RunResults(
        "made", "finished", "smollm2-135m", [make_task(n=40)], arms, {"gsm8k": make_score(base)}, seeds=[0]
    )


FORGETS, KEEPS = "1" * 12 + "0" * 28, "1" * 29 + "0" * 11


def test_every_claim_has_the_interval_and_verdict_of_the_paired_comparison(file: Path) -> None:
    replication = read_replication(file)
    seen = check(results(FORGETS, KEEPS), replication)
    assert [one.verdict for one in seen] == ["pass", "pass", "pass"]
    assert [round(one.paired.difference, 6) for one in seen if one.paired] == [-0.45, -0.025, 0.425]
    seen = check(results(KEEPS, FORGETS), replication)
    assert [one.verdict for one in seen] == ["fail", "fail", "fail"]


@pytest.mark.parametrize(
    ("rule", "margin", "low", "high", "holds"),
    [
        ("higher", 0, 0.01, 0.2, True),
        ("higher", 0, -0.01, 0.2, False),
        ("lower", 0, -0.2, -0.01, True),
        ("lower", 0, -0.2, 0.01, False),
        ("not-lower", 0.05, -0.04, 0.3, True),
        ("not-lower", 0.05, -0.06, 0.3, False),
        ("not-higher", 0.05, -0.4, 0.04, True),
        ("not-higher", 0.05, -0.4, 0.06, False),
    ],
)
def test_rules(rule: str, margin: float, low: float, high: float, holds: bool) -> None:
    assert Claim("sft", "base", "gsm8k", rule, margin, 0.0).holds(low, high) is holds


def save(run: RunResults, folder: Path, spec: str = TEXT) -> Path:
    folder.mkdir()
    run.save(folder)
    (folder / "manifest.json").write_text('{"status": "finished"}', encoding="utf-8")
    (folder / "spec.yaml").write_text(spec, encoding="utf-8")
    return folder


def test_the_command_prints_every_part_and_ends_with_0_or_1(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = save(results(FORGETS, KEEPS), tmp_path / "good"), save(results(KEEPS, KEEPS), tmp_path / "bad")
    assert run_cli(["check", str(good), "--against", str(file)]) == 0
    out = capsys.readouterr()
    for part in ("sft - base, gsm8k", "-30.0", "-45.0", "[", "lower", "pass", "a paper, Table 1", "A note.", "3 of 3"):
        assert part in out.out
    assert "departs" not in out.out
    assert run_cli(["check", str(bad), "--against", str(file), "--json"]) == 1
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1]["passed"] is False


def test_a_run_that_lacks_a_row_or_departs_does_not_pass_quietly(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = results(FORGETS, KEEPS)
    del short.arms[1]
    folder = save(short, tmp_path / "short", "model: smollm2-360m\nmethods: [sft]\ntasks: [gsm8k]\n")
    assert run_cli(["check", str(folder), "--against", str(file)]) == 1
    out = capsys.readouterr()
    assert out.out.count("not tested") == 2
    assert "has no row 'dasd'" in out.out
    assert "model is smollm2-360m instead of smollm2-135m; methods is sft instead of sft, dasd" in out.out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("source:", "sauce:", r"unknown key 'sauce'.*source"),
        ("run: {", "notes2: {", "unknown key"),
        ("row: sft,", "row: stf,", "claim 1: the run has no row 'stf'"),
        ("task: gsm8k, rule: lower", "task: gsm9k, rule: lower", "claim 1: the run has no task 'gsm9k'"),
        ("rule: lower", "rule: smaller", "claim 1"),
        ("margin: 0.2", "margin: 20", "out of range"),
        ("expected: -0.3", "figure: -0.3", "figure"),
        ("model: smollm2-135m", "modle: smollm2-135m", "modle"),
    ],
)
def test_a_faulty_file_is_named(old: str, new: str, message: str, file: Path) -> None:
    assert old in TEXT
    file.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError, match=message) as error:
        read_replication(file)
    assert "two-rows.yaml" in str(error.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"stm-gemma2-2b"):
        find_replication("stm-gemma2")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_replications_are_runs_and_claims(path: Path) -> None:
    replication = read_replication(find_replication(path.stem))
    assert resolve(read_file(path)) == replication.spec
    # The figures of the claims follow from those that the source line quotes: all have four digits at most.
    assert all(abs(claim.expected * 1e4 - round(claim.expected * 1e4)) < 1e-6 for claim in replication.claims)
    assert "arXiv" in replication.source


def test_what_is_shipped() -> None:
    assert [path.stem for path in SHIPPED] == ["lab", "sdft-llama2-7b", "stm-gemma2-2b", "stm-llama3-8b"]


def test_the_lab_s_known_effects_are_claims_about_the_preset() -> None:
    spec = read_replication(find_replication("lab")).spec
    assert spec == resolve(PRESETS["lab"], {"methods": spec.methods})


def test_the_committed_lab_run_shows_the_known_effects() -> None:
    findings = check(RunResults.load(ROOT / "results" / "lab"), read_replication(find_replication("lab")))
    assert [one.verdict for one in findings] == ["pass"] * 6
    assert all(one.paired is not None and one.paired.p < 0.01 for one in findings)
