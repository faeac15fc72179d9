"""Budgets of tokens and the adapters saved during training."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from dasd_bench.config.training import TrainingConfig
from dasd_bench.errors import UsageError
from dasd_bench.training.batching import batch_order, step_count
from dasd_bench.training.pace import COMPUTE, MOST_TIMES, TOKENS, Amount, Pace, TokenBudget, epoch_tokens, steps_to
from tests.training.helpers import BASE, RULES, make_examples, metrics, run, soft_model
from tests.training.test_resume import adapter_bytes, stopped, untimed


@dataclass
class Used:
    step: int = 0
    target_tokens: int = 0
    kept_tokens: int = 0
    generated_tokens: int = 0


@st.composite
def arms(draw: st.DrawFn) -> list[list[Amount]]:
    """A few arms of unlike length; an example has at least one weighted token, and at most all of its target's."""
    found = []
    for _ in range(draw(st.integers(2, 4))):
        targets = draw(st.lists(st.integers(1, 60), min_size=1, max_size=12))
        found.append([Amount(draw(st.integers(1, target)), target) for target in targets])
    return found


@given(arms(), st.sampled_from((TOKENS, COMPUTE)), st.integers(1, 5), st.floats(0.3, 3), st.integers(0, 9), st.data())
def test_matched_arms_agree_within_a_batch(
    every: list[list[Amount]], kind: str, batch_size: int, epochs: float, seed: int, data: st.DataObject
) -> None:
    config = TrainingConfig(epochs=epochs, batch_size=batch_size)
    spent = [data.draw(st.integers(0, 300)) if kind == COMPUTE else 0 for _ in every]
    alone = [before + epoch_tokens(arm, config, seed, kind) for before, arm in zip(spent, every, strict=True)]
    total = max(alone)
    for before, arm, own in zip(spent, every, alone, strict=True):
        budget = TokenBudget(kind, total, before)
        steps = steps_to(arm, config, seed, budget)
        order = itertools.islice(batch_order(len(arm), batch_size, seed), steps)
        batches = [sum(arm[i].of(kind) for i in batch) for batch in order]
        used, planned = before + sum(batches), step_count(len(arm), batch_size, epochs)
        if steps < MOST_TIMES * planned:
            # No step more than is needed: without the last one the budget is not used up.
            assert total <= used < total + batches[-1]
        assert steps >= planned or own == total
        pace = Pace(arm, config, seed, budget)
        counts = Used(steps, used - before, used - before)
        assert pace.done(counts)
        assert pace.used(counts) == used
        assert pace.short(counts) == max(0, total - used)


def test_a_budget_in_the_place_of_epochs(tmp_path: Path) -> None:
    examples = make_examples(10, seed=3)
    result = run(soft_model("llama"), examples, tmp_path, budget=TokenBudget(TOKENS, 300))
    kept = [line["kept_tokens"] for line in metrics(tmp_path)]
    assert result.kept_tokens == sum(kept)
    assert sum(kept[:-1]) < 300 <= sum(kept)
    assert (result.steps, result.missed) == (len(kept), 0)
    # The schedule runs over the budget's steps, not over the epochs'.
    cosine = run(soft_model("llama"), examples, tmp_path / "cosine", budget=TokenBudget(TOKENS, 300), schedule="cosine")
    rates = [line["lr"] for line in metrics(tmp_path / "cosine")]
    assert cosine.steps == result.steps
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.25 * rates[0]


def test_compute_counts_what_was_spent_before(tmp_path: Path) -> None:
    examples = make_examples(10, seed=3)
    result = run(soft_model("llama"), examples, tmp_path, budget=TokenBudget(COMPUTE, 500, spent=200))
    seen = [line["all_tokens"] for line in metrics(tmp_path)]
    assert 200 + sum(seen[:-1]) < 500 <= 200 + sum(seen)
    assert result.target_tokens == sum(seen)


def test_an_online_rule_trains_until_its_own_tokens_are_used(tmp_path: Path) -> None:
    """How many tokens it keeps is known only on the way; a resumed run comes to the same end."""
    examples = make_examples(10, seed=3)
    budget = TokenBudget(TOKENS, 200)
    result = run(soft_model("llama"), examples, tmp_path, RULES["profit-kept"], budget=budget, lr=1e-5)
    kept = [line["kept_tokens"] for line in metrics(tmp_path)]
    assert result.missed == 0
    assert sum(kept[:-1]) < 200 <= sum(kept)
    assert sum(kept) < sum(line["all_tokens"] for line in metrics(tmp_path))


def test_a_budget_out_of_reach_ends_and_is_told(tmp_path: Path) -> None:
    result = run(soft_model("llama"), make_examples(2, seed=3), tmp_path, budget=TokenBudget(TOKENS, 10**6), lr=1e-5)
    assert result.steps == MOST_TIMES
    assert result.missed == 10**6 - result.kept_tokens


def test_points_are_the_adapters_of_their_steps(tmp_path: Path) -> None:
    """The adapter at a half is that of a run that is stopped there, its schedule being constant."""
    examples = make_examples(16, seed=3)
    whole = run(soft_model("llama"), examples, tmp_path / "whole", epochs=2, evaluate_at=("0.5", "1", "0.2"))
    assert [(point.name, point.step) for point in whole.points] == [("0.2", 2), ("0.5", 4)]
    lines = metrics(tmp_path / "whole")
    assert [point.target_tokens for point in whole.points] == [
        sum(line["all_tokens"] for line in lines[: point.step]) for point in whole.points
    ]
    run(soft_model("llama"), examples, tmp_path / "half", epochs=1)
    a = load_file(tmp_path / "half" / "adapter" / "adapter_model.safetensors")
    b = load_file(tmp_path / "whole" / "points" / "0.5" / "adapter_model.safetensors")
    assert a.keys() == b.keys()
    assert all(a[name].equal(b[name]) for name in a)


def test_points_and_budget_survive_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = make_examples(10, seed=3)
    changes = {"checkpoint_steps": 2, "evaluate_at": ("0.25", "0.75"), "schedule": "cosine", "lr": 1e-4}
    asked = {"method": RULES["profit-kept"], "budget": TokenBudget(TOKENS, 300)}
    whole = run(soft_model("llama"), examples, tmp_path / "whole", **asked, **changes)
    with stopped(whole.points[0].step + 2, monkeypatch):
        run(soft_model("llama"), examples, tmp_path / "cut", **asked, **changes)
    again = run(soft_model("llama"), examples, tmp_path / "cut", **asked, **changes)
    assert again.points == whole.points
    assert replace(again, seconds=0, peak_memory_gib=0, adapter_dir=Path()) == replace(
        whole, seconds=0, peak_memory_gib=0, adapter_dir=Path()
    )
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")
    assert untimed(tmp_path / "cut") == untimed(tmp_path / "whole")
    for point in whole.points:
        files = [tmp_path / name / "points" / point.name / "adapter_model.safetensors" for name in ("whole", "cut")]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("text", ["0", "1.5", "half", "nan", "-0.5"])
def test_a_point_is_a_fraction(text: str) -> None:
    with pytest.raises(UsageError, match="use numbers above 0 and up to 1"):
        _ = replace(BASE, evaluate_at=("0.5", text)).points
