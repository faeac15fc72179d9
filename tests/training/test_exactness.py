"""Losses and updates against a naive one-example trainer on plain peft, and against other cuts of the same batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dasd_bench.training import loss as loss_module
from dasd_bench.training.model import PackedModel
from tests.tiny_models import KINDS, Kind
from tests.training.helpers import BASE, RULES, Sft, make_examples, metrics, naive_losses, run, soft_model


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_a_run_equal_a_naive_loop(kind: Kind, rule: str, tmp_path: Path) -> None:
    examples = make_examples(10, seed=3)
    method = RULES[rule]
    result = run(soft_model(kind), examples, tmp_path, method, microbatch_tokens=64, epochs=2)
    wanted = naive_losses(soft_model(kind), examples, method, replace(BASE, epochs=2))
    got = [line["loss"] for line in metrics(tmp_path)]
    assert len(got) == result.steps == 6
    assert got == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("rule", ["profit-kept", "dft", "idft"])
def test_kept_tokens_are_never_pushed_below_their_static_weight(rule: str, tmp_path: Path) -> None:
    examples = make_examples(8, seed=4, keep_end=True)
    run(soft_model("qwen3"), examples, tmp_path, RULES[rule])
    wanted = naive_losses(soft_model("qwen3"), examples, RULES[rule], BASE)
    assert [line["loss"] for line in metrics(tmp_path)] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("changes", [{"rslora": True}, {"dora": True}, {"gradient_checkpointing": True}])
def test_variants_equal_a_naive_loop(changes: dict[str, bool], tmp_path: Path) -> None:
    examples = make_examples(8, seed=5)
    run(soft_model("llama"), examples, tmp_path, Sft(), **changes)
    wanted = naive_losses(soft_model("llama"), examples, Sft(), replace(BASE, **changes))
    assert [line["loss"] for line in metrics(tmp_path)] == pytest.approx(wanted, rel=1e-5)


def test_fractional_static_weights_count_as_whole_tokens(tmp_path: Path) -> None:
    examples = [replace(e, weights=e.weights * np.float32(0.25)) for e in make_examples(8, seed=6)]
    run(soft_model("llama"), examples, tmp_path)
    assert [line["loss"] for line in metrics(tmp_path)] == pytest.approx(
        naive_losses(soft_model("llama"), examples, Sft(), BASE), rel=1e-5
    )
    assert metrics(tmp_path)[0]["kept_tokens"] == int(metrics(tmp_path)[0]["kept_tokens"])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    micro=st.integers(16, 400),
    chunk=st.integers(1, 300),
    rule=st.sampled_from(sorted(RULES)),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(KINDS),
)
def test_one_number_for_any_micro_batch_and_chunk(
    micro: int, chunk: int, rule: str, seed: int, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = make_examples(7, seed=seed)
    lines = []
    for size, rows in ((100_000, 100_000), (micro, chunk)):
        with monkeypatch.context() as patch:
            patch.setattr(loss_module.backward_tokens, "__defaults__", (0.0, rows))
            run(soft_model(kind), examples, tmp_path, RULES[rule], microbatch_tokens=size, batch_size=7)
        lines.append(metrics(tmp_path)[0])
        (tmp_path / "metrics.jsonl").unlink()
    whole, cut = lines
    assert cut["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert cut["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-5)
    assert (cut["kept_tokens"], cut["all_tokens"]) == (whole["kept_tokens"], whole["all_tokens"])


@pytest.mark.parametrize("kind", KINDS)
def test_packed_rows_do_not_see_each_other(kind: Kind) -> None:
    """Rows longer than the tiny models' sliding window of 24."""
    model = soft_model(kind)
    rng = np.random.default_rng(0)
    rows = [torch.from_numpy(rng.integers(10, 300, n)) for n in (40, 5, 61, 1)]
    with torch.no_grad():
        wanted = torch.cat([model(input_ids=row[None]).logits[0] for row in rows])
        with PackedModel(model) as packed:
            assert packed.packs
            positions = torch.cat([torch.arange(len(row)) for row in rows])
            got = packed.head().logits(packed.hidden(torch.cat(rows), positions, tuple(len(row) for row in rows)))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    assert model.config._attn_implementation in ("sdpa", "eager")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_packed_in_bfloat16_too(kind: Kind) -> None:
    with PackedModel(soft_model(kind).to(torch.bfloat16)) as packed:
        assert packed.packs


def test_logits_are_made_for_trained_positions_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = soft_model("llama")
    examples = make_examples(8, seed=1)
    rows: list[int] = []
    head = model.get_output_embeddings()
    monkeypatch.setattr(loss_module, "token_statistics", _recording(rows))
    run(model, examples, tmp_path, microbatch_tokens=32)
    assert sum(rows) == sum(int((e.weights > 0).sum()) for e in examples)
    assert max(rows) <= loss_module.CHUNK_ROWS
    assert "forward" not in vars(head)


def _recording(rows: list[int]):  # type: ignore[no-untyped-def]
    original = loss_module.token_statistics

    def wrapped(z: torch.Tensor, labels: torch.Tensor, *, needs_entropy: bool):  # type: ignore[no-untyped-def]
        rows.append(len(z))
        return original(z, labels, needs_entropy=needs_entropy)

    return wrapped
