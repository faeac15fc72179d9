"""Bad input, metrics, order and schedule."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, get_scheduler

from dasd_bench.errors import PluginError, TrainingError
from dasd_bench.methods.context import LiveTokens
from dasd_bench.training.batching import batches, build_row, make_packs, step_count
from dasd_bench.training.schedule import learning_rate
from tests.tiny_models import tiny_model
from tests.training.helpers import BASE, ProfitAll, Sft, make_examples, metrics, naive_losses, quiet, run, soft_model


def silent(example: Any) -> Any:
    return replace(example, weights=np.zeros_like(example.weights))


def test_examples_without_weight_are_skipped_and_counted(tmp_path: Path) -> None:
    examples = make_examples(8)
    examples[2] = silent(examples[2])
    console = quiet()
    result = run(tiny_model("llama"), examples, tmp_path, console=console)
    assert result.skipped == ("t/train/2",)
    assert result.steps == 2
    assert result.target_tokens == sum(len(e.target_ids) for e in examples)
    assert result.kept_tokens == sum(int((e.weights > 0).sum()) for e in examples)
    # Whoever trains tells of them, once: here they are named in the result.
    assert console.warnings == []


def test_a_batch_without_weight_changes_nothing(tmp_path: Path) -> None:
    examples = [silent(e) if i else e for i, e in enumerate(make_examples(4))]
    run(soft_model("llama"), examples, tmp_path, batch_size=1)
    lines = metrics(tmp_path)
    assert sorted(line["kept_tokens"] > 0 for line in lines) == [False, False, False, True]
    assert all(line["grad_norm"] == 0 for line in lines if not line["kept_tokens"])


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="No token of the 3 examples"):
        run(tiny_model("llama"), [silent(e) for e in make_examples(3)], tmp_path)
    with pytest.raises(TrainingError, match="no training example"):
        run(tiny_model("llama"), [], tmp_path)
    with pytest.raises(TrainingError, match="'profit-all' gave every token weight 0"):
        run(tiny_model("llama"), make_examples(3), tmp_path, ProfitAll(tau=1.5))


def test_long_targets_are_cut_and_counted(tmp_path: Path) -> None:
    examples = make_examples(8, longest=30)
    console = quiet()
    result = run(tiny_model("llama"), examples, tmp_path, max_length=32, console=console)
    long = [e for e in examples if len(e.prompt_ids) + len(e.target_ids) > 32]
    assert result.truncated == tuple(e.example_id for e in long)
    assert len(long) > 0
    assert result.target_tokens == sum(min(len(e.target_ids), 32 - len(e.prompt_ids)) for e in examples)
    assert console.warnings == []


def test_divergence_names_step_and_examples(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"diverged at step 1: loss .* t/train/"):
        run(tiny_model("llama"), make_examples(4), tmp_path, max_loss=0.01)
    model = tiny_model("llama")
    with torch.no_grad():
        model.get_input_embeddings().weight[299] = float("nan")
    examples = make_examples(4)
    examples[1].prompt_ids[0] = 299
    clean = [i for i in (0, 2, 3) if 299 not in examples[i].prompt_ids and 299 not in examples[i].target_ids]
    assert clean == [0, 2, 3]
    with pytest.raises(TrainingError, match=r"step \d: loss nan on examples t/train/1;"):
        run(model, examples, tmp_path, batch_size=1)


@pytest.mark.parametrize("bad", [lambda n: n + 1, lambda n: n])
def test_an_online_rule_that_misbehaves_is_named(bad: Any, tmp_path: Path) -> None:
    class Wrong(ProfitAll):
        def online_weights(self, live: LiveTokens) -> Tensor:
            return -torch.ones(bad(len(live.logp)))

    with pytest.raises(
        PluginError, match=r"online_weights\(\) of method .* (must return one weight|returned a weight)"
    ):
        run(tiny_model("llama"), make_examples(4), tmp_path, Wrong())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.ones(1, dtype=np.float32)}, "1 weights"),
        ({"prompt_ids": np.zeros(0, dtype=np.int32)}, "empty prompt"),
        ({"weights": None}, "negative or not finite"),
    ],
)
def test_malformed_examples_are_named(change: dict[str, Any], message: str) -> None:
    example = make_examples(1)[0]
    if change.get("weights", 0) is None:
        change = {"weights": np.full(len(example.target_ids), np.nan, dtype=np.float32)}
    with pytest.raises(TrainingError, match=f"t/train/0.*{message}"):
        build_row(replace(example, **change), 100)


def test_metrics_have_one_line_a_step(tmp_path: Path) -> None:
    examples = make_examples(9)
    result = run(soft_model("llama"), examples, tmp_path, epochs=2, schedule="linear", lr=1e-3)
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert (
        sum(line["all_tokens"] for line in lines)
        == result.target_tokens
        == 2 * sum(len(e.target_ids) for e in examples)
    )
    assert lines[-1]["loss"] == result.final_loss
    assert all(line["grad_norm"] > 0 and line["tokens_per_second"] > 0 and line["memory_gib"] > 0 for line in lines)
    assert [line["lr"] for line in lines] == pytest.approx([1e-3 * (1 - i / 6) for i in range(6)])


def test_order_is_a_function_of_the_seed() -> None:
    first = list(batches(10, 4, 2.0, seed=1))
    assert first == list(batches(10, 4, 2.0, seed=1))
    assert first != list(batches(10, 4, 2.0, seed=2))
    assert [len(b) for b in first] == [4, 4, 2, 4, 4, 2]
    assert sorted(i for b in first[:3] for i in b) == sorted(i for b in first[3:] for i in b) == list(range(10))
    assert first[:3] != first[3:]
    assert len(list(batches(10, 4, 0.5, seed=1))) == step_count(10, 4, 0.5) == 2


def test_packs_hold_every_row_once_and_keep_the_limit() -> None:
    rows = [build_row(e, 100) for e in make_examples(30, longest=40)]
    packs = make_packs(rows, 64)
    assert sorted(i for p in packs for i in p.example_ids) == sorted(row.example_id for row in rows)
    assert all(sum(p.lengths) <= 64 or len(p.lengths) == 1 for p in packs)
    for pack in packs:
        by_id = {row.example_id: row for row in rows}
        wanted = np.concatenate([by_id[i].input_ids for i in pack.example_ids])
        assert np.array_equal(pack.input_ids, wanted)
        starts = np.cumsum([0, *pack.lengths])[:-1]
        assert all(pack.position_ids[s] == 0 for s in starts)
    assert len(make_packs(rows, 64, together=False)) == 30


def test_what_follows_the_last_trained_token_is_left_out() -> None:
    example = make_examples(1, masked=0.0)[0]
    weights = example.weights.copy()
    weights[3:] = 0
    row = build_row(replace(example, weights=weights), 100)
    assert len(row.input_ids) == len(example.prompt_ids) + 2
    assert list(row.labels) == list(example.target_ids[:3])


@pytest.mark.parametrize("name", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.13, 1.0])
def test_schedule_equals_that_of_transformers(name: str, warmup: float) -> None:
    config = replace(BASE, schedule=name, warmup=warmup, lr=3e-4)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=3e-4)
    wanted = get_scheduler(
        "constant_with_warmup" if name == "constant" else name,
        optimizer,
        num_warmup_steps=math.ceil(warmup * 40),
        num_training_steps=40,
    )
    for step in range(40):
        assert learning_rate(config, step, 40) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        wanted.step()


def test_a_model_that_cannot_be_packed_is_trained_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dasd_bench.training import model as module

    run(soft_model("llama"), make_examples(8), tmp_path / "packed")
    answers = iter([False, True])
    monkeypatch.setattr(module.PackedModel, "_agree", lambda *_: next(answers))
    run(soft_model("llama"), make_examples(8), tmp_path / "single")
    packed, single = metrics(tmp_path / "packed"), metrics(tmp_path / "single")
    assert [line["loss"] for line in single] == pytest.approx([line["loss"] for line in packed], rel=1e-5)


def test_a_model_with_another_head_is_trained_on_its_own_logits(tmp_path: Path) -> None:
    def doubled() -> PreTrainedModel:
        model = soft_model("llama")
        model.register_forward_hook(lambda _m, _a, output: output.__setitem__("logits", output.logits * 2))
        return model

    examples = make_examples(6)
    run(doubled(), examples, tmp_path, Sft())
    wanted = naive_losses(doubled(), examples, Sft(), BASE)
    assert [line["loss"] for line in metrics(tmp_path)] == pytest.approx(wanted, rel=1e-5)
