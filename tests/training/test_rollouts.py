"""Targets drawn from the live model at every step: its weights, its seeds, the same bytes after a resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import Tensor

from dasd_bench.api import RolloutContext, Sampling, forward_kl
from dasd_bench.errors import PluginError, UsageError
from dasd_bench.methods.base import Method, validate_method
from dasd_bench.methods.context import LiveLogits
from dasd_bench.training.batching import batches
from dasd_bench.training.checks import check_rollouts
from dasd_bench.training.distributed import Processes
from dasd_bench.training.rollouts import Decoding
from dasd_bench.training.trainer import TrainResult, train
from dasd_bench.types import TrainExample
from tests.tiny_models import tiny_tokenizer
from tests.training.helpers import BASE, Sft, make_examples, metrics, quiet, soft_model
from tests.training.test_resume import adapter_bytes, stopped, untimed

NEW = 7
seen: dict[int, list[TrainExample]] = {}


@dataclass(frozen=True)
class OnPolicy(Method):
    """KL to the base, which sees another prompt, on the student's own draws."""

    name = "on-policy"
    summary = "self-distillation on rollouts"
    teacher = "base"
    rollouts = True

    temperature = 0.8

    def rollout(self, examples: Sequence[TrainExample], context: RolloutContext) -> list[TrainExample]:
        drawn = context.generate(examples, max_new_tokens=NEW, sampling=Sampling(self.temperature))
        seen[context.step] = [context.target(example, one) for example, one in zip(examples, drawn, strict=True)]
        return seen[context.step]

    def token_loss(self, live: LiveLogits) -> Tensor:
        return live.nll() + forward_kl(live.teacher_logits[0], live.logits)


@dataclass(frozen=True)
class Greedy(OnPolicy):
    name = "greedy"
    temperature = 0.0


def go(out: Path, method: Method, *, count: int = 6, processes: Processes | None = None, **changes: Any) -> TrainResult:
    examples = [replace(e, teacher_prompts=(e.prompt_ids[::-1].copy(),)) for e in make_examples(count, seed=1)]
    seen.clear()
    return train(
        soft_model("llama"),
        examples,
        replace(BASE, **{"lr": 1e-2, "batch_size": 3, **changes}),
        method=method,
        seed=0,
        out_dir=out,
        console=quiet(),
        max_length=512,
        processes=processes,
        decoding=Decoding(tiny_tokenizer("llama"), frozenset({3})),
    )


@pytest.mark.parametrize(
    "changes", [{}, {"dora": True}, {"lora_targets": "q_proj,down_proj", "lr": 0.3}, {"lora_rank": 0}]
)
def test_completions_are_those_of_the_weights_at_that_step(changes: dict[str, Any], tmp_path: Path) -> None:
    """Greedy ones of the third step, against a plain loop on the adapter that two steps give."""
    method = replace(Greedy())
    if changes.get("lora_rank") == 0:
        method = dataclass(frozen=True)(type("Live", (Greedy,), {"name": "live", "teacher": "live"}))()
    go(tmp_path / "three", method, epochs=1.5, **changes)
    third = seen[2]
    go(tmp_path / "two", method, epochs=1, **changes)
    folder = tmp_path / "two" / "adapter"
    if changes.get("lora_rank") == 0:
        model: Any = type(soft_model("llama")).from_pretrained(folder)
    else:
        model = PeftModel.from_pretrained(soft_model("llama"), str(folder))
    model.eval()
    base = soft_model("llama")
    differ = 0
    for example in third:
        found: dict[str, list[int]] = {}
        for name, decoder in (("trained", model), ("base", base)):
            ids = example.prompt_ids.tolist()
            for _ in range(NEW):
                with torch.no_grad():
                    ids.append(int(decoder(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
                if ids[-1] == 3:
                    break
            found[name] = ids[len(example.prompt_ids) :]
        assert example.target_ids.tolist() == found["trained"]
        differ += found["trained"] != found["base"]
    assert differ


def test_every_step_and_example_draws_its_own(tmp_path: Path) -> None:
    result = go(tmp_path, OnPolicy(), epochs=2)
    lines = metrics(tmp_path)
    drawn = [tuple(e.target_ids.tolist()) for step in sorted(seen) for e in seen[step]]
    assert len(set(drawn)) == len(drawn) == 12
    assert [line["generated_tokens"] for line in lines] == [sum(len(e.target_ids) for e in seen[s]) for s in range(4)]
    assert [line["all_tokens"] for line in lines] == [line["generated_tokens"] for line in lines]
    assert result.generated_tokens == sum(line["generated_tokens"] for line in lines)
    names = [e.example_id for e in seen[0]]
    assert names == [f"t/train/{i}" for i in next(iter(batches(6, 3, 2.0, 0)))]


def test_rollouts_resume_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"epochs": 2, "checkpoint_steps": 2, "lora_dropout": 0.1}
    go(tmp_path / "whole", OnPolicy(), **changes)
    with stopped(3, monkeypatch):
        go(tmp_path / "cut", OnPolicy(), **changes)
    go(tmp_path / "cut", OnPolicy(), **changes)
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")
    assert untimed(tmp_path / "cut") == untimed(tmp_path / "whole")


def test_a_method_may_draw_several_times_and_drop_some(tmp_path: Path) -> None:
    class Best(OnPolicy):
        def rollout(self, examples: Sequence[TrainExample], context: RolloutContext) -> list[TrainExample]:
            twice = [example for example in examples for _ in range(2)]
            drawn = context.generate(twice, max_new_tokens=NEW, sampling=Sampling(1.0))
            assert any(
                a.token_ids.tolist() != b.token_ids.tolist() for a, b in zip(drawn[::2], drawn[1::2], strict=True)
            )
            best = [max(pair, key=lambda one: np.mean(one.logp)) for pair in zip(drawn[::2], drawn[1::2], strict=True)]
            return [context.target(e, one) for e, one in zip(examples, best, strict=True)][: 3 - context.step]

    go(tmp_path, Best())
    lines = metrics(tmp_path)
    assert all(line["generated_tokens"] > line["all_tokens"] for line in lines)

    class Nothing(OnPolicy):
        def rollout(self, examples: Sequence[TrainExample], context: RolloutContext) -> list[TrainExample]:
            return []

    with pytest.raises(
        PluginError, match=r"rollout.*must return a list of examples to train on at step 1, not an empty"
    ):
        go(tmp_path / "none", Nothing())


def test_what_cannot_be_rolled_out_is_refused() -> None:
    with pytest.raises(UsageError, match="use --parallel data"):
        check_rollouts(OnPolicy(), sharded=True)
    check_rollouts(Sft(), sharded=True)
    bad = dataclass(frozen=True)(type("Bad", (Sft,), {"name": "bad", "rollouts": True}))
    with pytest.raises(PluginError, match="must set rollouts = True and define rollout"):
        validate_method(bad, "file.py")
    validate_method(OnPolicy, "file.py")
