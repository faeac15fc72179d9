"""A plugin with a loss, a teacher and rollouts of its own, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.run.helpers import artifacts, command, run_args

PLUGIN = """
from dataclasses import dataclass

from dasd_bench.api import Method, Sampling, generalized_jsd, option


@dataclass(frozen=True)
class OnPolicy(Method):
    name = "on-policy"
    summary = "JSD to the base on the model's own draws"
    teacher = "base"
    rollouts = True

    beta: float = option(0.5, help="0 forward KL, 1 reverse.", minimum=0.0, maximum=1.0)

    def rollout(self, examples, context):
        drawn = context.generate(examples, max_new_tokens=6, sampling=Sampling(1.0))
        return [context.target(example, one) for example, one in zip(examples, drawn, strict=True)]

    def token_loss(self, live):
        return live.nll() + generalized_jsd(live.teacher_logits[0], live.logits, self.beta, top_k=50, tail=True)
"""


def test_a_plugin_trains_on_its_own_draws(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    """In one process, and again in two: the same keys, so the first run's adapter serves both."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "on_policy.py").write_text(PLUGIN)
    args = run_args(tiny_folder("llama"), tmp_path, "--plugins", str(plugins), methods="on-policy")
    refused = command(capsys, *args, "--set", "training.lora_rank=0")
    assert refused.code == 2
    assert "'on-policy' has the untrained model as its teacher" in refused.err
    refused = command(capsys, *args, "--processes", "2", "--parallel", "fsdp")
    assert refused.code == 2
    assert "use --parallel data" in refused.err

    first = command(capsys, *args)
    assert first.code == 0, first.err
    lines = [
        json.loads(line)
        for line in (tmp_path / "run" / "arms" / "on-policy" / "seed0" / "train" / "metrics.jsonl")
        .read_text()
        .splitlines()
    ]
    assert len(lines) == 6
    assert all(0 < line["generated_tokens"] <= 24 and line["nll"] < line["loss"] + 1e-6 for line in lines)
    wanted = artifacts(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "one")
    again = command(capsys, *args, "--processes", "2")
    assert again.code == 0, again.err
    assert artifacts(tmp_path / "run") == wanted

    (tmp_path / "store").rename(tmp_path / "old-store")
    (tmp_path / "run").rename(tmp_path / "reused")
    two = command(capsys, *args, "--processes", "2")
    assert two.code == 0, two.err
    other = (tmp_path / "run" / "arms" / "on-policy" / "seed0" / "train" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["generated_tokens"] for line in other] == [line["generated_tokens"] for line in lines]
