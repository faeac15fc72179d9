"""``dasd-bench bench``: a real measurement of the quickest benchmark, and what is said where one cannot run."""

from __future__ import annotations

import importlib
import importlib.util
import json

import pytest

from dasd_bench.cli.bench_cmd import benchmarks
from dasd_bench.cli.main import run_cli

KEYS = {"name", "dtype", "peer", "ours", "unit", "ratio", "runs", "limit_share", "max_abs_diff", "identical"}


def test_json_lines_have_the_documented_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["bench", "exec", "--limit", "1", "--runs", "1", "--json"]) == 0
    (line,) = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert set(line) >= KEYS
    assert line["identical"] is True
    assert line["ratio"] == pytest.approx(line["ours"] / line["peer"], rel=0.05)


def test_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["bench", "dual-decod"]) == 2
    assert "Did you mean 'dual-decode'" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("trl") is not None, reason="TRL is installed")
def test_missing_peer_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["bench", "train", "--runs", "1", "--limit", "1"]) == 1
    assert "train needs trl, which is not installed" in capsys.readouterr().out


def test_every_benchmark_has_its_function() -> None:
    for benchmark in benchmarks().values():
        module = importlib.import_module(f"benchmarks.{benchmark.module}")
        assert callable(getattr(module, benchmark.function))
