"""The main job on tiny models of three architectures: every stage, every artifact."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dasd_bench.results.schema import RunResults
from dasd_bench.store.store import load_ragged
from tests.run.helpers import artifacts, command, run_args

METHODS = "sft,self-distill,dasd,low-ppl,profit"


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2"])
def test_whole_flow(kind: str, tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    model = tiny_folder(kind)
    result = command(capsys, *run_args(model, tmp_path, methods=METHODS))
    assert result.code == 0, result.err
    run = tmp_path / "run"
    results = RunResults.load(run)
    assert results.status == "finished"
    assert [arm.label for arm in results.arms] == METHODS.split(",")
    assert set(results.base) == {"mini_gsm", "mini_arc"}
    for label in METHODS.split(","):
        assert label in result.out
    assert str(run) in result.out
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["chat_template"]["sha256"]
    assert manifest["environment"]["packages"]["torch"]
    check_arm_files(run, METHODS.split(","))
    check_adapter_in_plain_peft(model, run / "arms" / "dasd" / "seed0" / "adapter")


def check_arm_files(run: Path, labels: list[str]) -> None:
    for label in labels:
        folder = run / "arms" / label / "seed0"
        lines = [json.loads(line) for line in (folder / "targets.jsonl").read_text().splitlines()]
        arrays, rows = load_ragged(folder / "tokens.safetensors")
        assert [line["id"] for line in lines] == [row["id"] for row in rows]
        for name, items in arrays.items():
            if name != "proposals":
                assert [len(item) for item in items] == [line["tokens"] for line in lines], name
        assert all(float(item.max()) <= 0 for item in arrays["logp"])
        samples = (folder / "eval" / "mini_gsm" / "samples.jsonl").read_text().splitlines()
        assert len(samples) == 6
        metrics = (folder / "train" / "metrics.jsonl").read_text().splitlines()
        assert len(metrics) == 6  # 10 examples, batches of 4, 2 epochs


def check_adapter_in_plain_peft(model: Path, adapter: Path) -> None:
    """The adapter loads in plain peft and changes what the model says, as our own loading of it does."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from dasd_bench.models.load import load_model

    ids = torch.arange(5, 25)[None]
    plain = AutoModelForCausalLM.from_pretrained(model)
    before = plain(ids).logits.detach()
    tuned = PeftModel.from_pretrained(plain, str(adapter))
    theirs = tuned(ids).logits.detach()
    ours = load_model(model, adapter=adapter)(ids).logits.detach()
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    assert (theirs - before).abs().max() > 1e-4


def test_shared_stages_are_computed_once_and_a_second_run_computes_nothing(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dasd_bench.engine.engine import Engine

    calls: list[str] = []
    for name in ("generate", "dual_decode", "score", "loglikelihood"):
        original = getattr(Engine, name)

        def counted(self, requests, *args, _name=name, _original=original, **options):
            calls.append(_name)
            return _original(self, requests, *args, **options)

        monkeypatch.setattr(Engine, name, counted)
    args = run_args(tiny_folder("llama"), tmp_path, "--seeds", "0,1", methods="sft,low-ppl,profit")
    first = command(capsys, *args)
    assert first.code == 0, first.err
    # Gold targets are scored once for three methods and two seeds: 10 rows in shards of 5 are 2 calls.
    # Reference nll: base and 6 adapters on 2 tasks are 14 calls.
    assert calls.count("score") == 2 + 14
    assert first.out.count("] reused from the store") == 5 + 5
    before = artifacts(tmp_path / "run")
    calls.clear()
    second = command(capsys, *args)
    assert second.code == 0
    assert calls == []
    assert "Stages: 0 computed" in second.out
    assert artifacts(tmp_path / "run") == before
    spec = str(tmp_path / "run" / "spec.yaml")
    again = command(capsys, "run", "-c", spec, "--output", str(tmp_path / "again"), "--store", str(tmp_path / "store"))
    assert again.code == 0
    assert calls == []
    after = artifacts(tmp_path / "again")
    assert {k: v for k, v in after.items() if k != "results.json"} == {
        k: v for k, v in before.items() if k != "results.json"
    }


def test_same_seed_same_bytes_and_another_seed_another_adapter(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    model = tiny_folder("qwen3")
    options = ("--seeds", "3,4")
    found = []
    for name in ("a", "b"):
        result = command(
            capsys,
            *run_args(model, tmp_path / name, *options, methods="dasd+rule=random-gate,self-distill+temperature=1"),
        )
        assert result.code == 0, result.err
        found.append(artifacts(tmp_path / name / "run"))
    assert found[0] == found[1]
    arm = "arms/self-distill+temperature=1"
    assert (
        found[0][f"{arm}/seed3/adapter/adapter_model.safetensors"]
        != (found[0][f"{arm}/seed4/adapter/adapter_model.safetensors"])
    )


def test_low_ppl_weights_follow_the_stored_scores(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path, "--set", "method.tau=60", methods="low-ppl"))
    assert result.code == 0, result.err
    arrays, _ = load_ragged(tmp_path / "run" / "arms" / "low-ppl" / "seed0" / "tokens.safetensors")
    weights = np.concatenate(arrays["weights"])
    for logp, marks, weight in zip(arrays["logp"], arrays["marks"], arrays["weights"], strict=True):
        expected = [float(m == 2 or np.exp(-np.float64(p)) <= 60) for p, m in zip(logp, marks, strict=True)]
        assert weight.tolist() == expected
    assert 0 < weights.mean() < 1


DROPPING = ("self-distill", "min-change", "hinted-decoding", "dasd")


def test_failed_arm_leaves_a_partial_run(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    plugin = tmp_path / "plugins"
    plugin.mkdir()
    (plugin / "nothing.py").write_text(
        "from dataclasses import dataclass\nimport numpy as np\nfrom dasd_bench.api import Method\n\n"
        '@dataclass(frozen=True)\nclass Nothing(Method):\n    """Masks all."""\n    name = "nothing"\n'
        '    summary = "All weights zero."\n'
        "    def select(self, scored):\n        return np.zeros(len(scored.target.token_ids), dtype=np.float32)\n"
    )
    # A tiny random model has no right answer at all: these keep none of what it writes.
    filters = ["star", "rest-em+samples=1", "self-output", "sppl", *(f"{name}+on_wrong=drop" for name in DROPPING)]
    args = run_args(
        tiny_folder("llama"), tmp_path, "--plugins", str(plugin), methods=",".join(["sft,nothing", *filters])
    )
    result = command(capsys, *args)
    assert result.code == 3, result.err
    assert "nothing seed 0 failed" in result.out
    results = RunResults.load(tmp_path / "run")
    assert results.status == "partial"
    assert [arm.label for arm in results.arms] == ["sft"]
    failures = json.loads((tmp_path / "run" / "manifest.json").read_text())["failures"]
    told = {one.partition(" seed 0: ")[0]: one for one in failures}
    assert told.keys() == {"nothing", *filters}
    for name in filters:
        assert re.search(r", so there is nothing to train on; all answers are in the store: (take|lower) ", told[name])
    assert len(list((tmp_path / "store" / "generate").iterdir())) >= 4


def test_random_gate_decodes_the_gate_it_is_compared_with_once(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dasd_bench.engine.engine import Engine

    calls: list[int] = []
    original = Engine.dual_decode

    def counted(self, requests, *args, **options):
        calls.append(len(requests))
        return original(self, requests, *args, **options)

    monkeypatch.setattr(Engine, "dual_decode", counted)
    methods = "dasd,dasd+control=random"
    result = command(capsys, *run_args(tiny_folder("llama"), tmp_path, "--seeds", "0,1", methods=methods))
    assert result.code == 0, result.err
    # 10 rows in shards of 5 are 2 calls: the gate once for both methods and seeds, the random gate for each seed.
    assert len(calls) == 2 + 2 * 2


def test_code_task_runs_whole_once_it_is_allowed(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    args = run_args(tiny_folder("qwen3"), tmp_path, "--confirm-run-unsafe-code", methods="self-distill")
    args[args.index("mini_gsm,mini_arc")] = "mini_mbpp"
    result = command(capsys, *args)
    assert result.code == 0, result.err
    results = RunResults.load(tmp_path / "run")
    assert results.base["mini_mbpp"].n == 6
    assert results.base["mini_mbpp"].mean == 0.0
    assert results.arms[0].seeds[0].target_stats.gold_share == 1.0


def test_the_base_alone_is_evaluated_and_nothing_is_trained(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    """Also on a set that can only be evaluated; its answers are those that a run with methods has, or takes up."""
    model = tiny_folder("llama")
    data = tmp_path / "data" / "winogrande"
    data.mkdir(parents=True)
    row = {"sentence": "The cup did not fit the box as _ was big.", "option1": "the cup", "option2": "the box"}
    lines = [json.dumps({**row, "answer": str(1 + index % 2)}) for index in range(3)]
    (data / "validation.jsonl").write_text("\n".join(lines))
    more = ("--tasks", "winogrande", "--data-dir", str(tmp_path / "data"))
    planned = command(capsys, *run_args(model, tmp_path, *more, "--dry-run", methods="base"))
    assert "train" not in planned.out.split("reference nll")[1]
    result = command(capsys, *run_args(model, tmp_path, *more, methods="base"))
    assert result.code == 0, result.err
    run = tmp_path / "run"
    results = RunResults.load(run)
    assert (results.status, results.arms, list(results.base)) == (
        "finished",
        [],
        ["mini_gsm", "mini_arc", "winogrande"],
    )
    assert "0 training rows" in result.out
    assert not (run / "arms").exists()
    assert json.loads((run / "manifest.json").read_text())["arms"] == []
    for args in (["table", str(run)], ["samples", str(run)], ["score", str(run)], ["report", str(run)]):
        after = command(capsys, *args)
        assert after.code == 0, (args, after.err)
    beside = command(
        capsys, *run_args(model, tmp_path / "next", "--store", str(tmp_path / "store"), methods="base,sft")
    )
    assert beside.code == 0, beside.err
    assert "[evaluate mini_gsm base] reused from the store" in beside.out
    assert [arm.label for arm in RunResults.load(tmp_path / "next" / "run").arms] == ["sft"]


def test_no_sweep_of_the_base_and_no_method_of_its_name(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    _, *args = run_args(tiny_folder("llama"), tmp_path, methods="base")
    swept = command(capsys, "sweep", *args, "--grid", "training.lr=1e-4")
    assert swept.code == 2
    assert "'base' is not a method" in swept.err
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom dasd_bench.api import Method\n\n"
        "@dataclass(frozen=True)\nclass Mine(Method):\n    name = 'base'\n    summary = 'x'\n"
    )
    listed = command(capsys, "list", "methods", "--plugins", str(tmp_path))
    assert "reserved for the untrained model" in listed.out + listed.err
