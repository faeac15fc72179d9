"""Rules that see the whole batch, and the mean over rows: against a naive loop, whatever the packing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dasd_bench.errors import PluginError
from dasd_bench.methods.base import Method, validate_method
from dasd_bench.methods.context import LiveTokens
from dasd_bench.training.batching import batches
from dasd_bench.types import TrainExample
from tests.training.helpers import Dft, Sft, make_examples, metrics, run, soft_model


@dataclass(frozen=True)
class TopShare(Method):
    """The 60 % of the batch's tokens with the highest loss above a reference's (Rho-1's rule)."""

    name = "top-share"
    summary = "a rule over the whole batch"
    online = True
    scope = "batch"
    denominator = "all"

    def online_weights(self, live: LiveTokens) -> Tensor:
        excess = live.columns["reference"] - live.logp
        weights = torch.zeros_like(excess)
        weights[excess.topk(round(0.6 * len(excess))).indices] = 1.0
        return weights


@dataclass(frozen=True)
class RowMean(Method):
    name = "row-mean"
    summary = "mean over rows of the mean over their tokens"
    denominator = "rows"


@dataclass(frozen=True)
class DftRows(Dft):
    name = "dft-rows"
    denominator = "rows"


@dataclass(frozen=True)
class TopShareRows(TopShare):
    name = "top-share-rows"
    denominator = "rows"


METHODS = {m.name: m for m in (TopShare(), RowMean(), DftRows(), TopShareRows())}


def examples_for(count: int, seed: int) -> list[TrainExample]:
    rng = np.random.default_rng(seed)
    return [
        replace(e, columns={"reference": rng.normal(-5, 2, len(e.target_ids)).astype(np.float32)})
        for e in make_examples(count, seed=seed)
    ]


def naive_first_loss(method: Method, examples: list[TrainExample], batch: list[int]) -> float:
    """The loss of one batch under the untrained model: whole logits, float64, one token after the other."""
    model = soft_model("llama")
    tokens = []
    for row, i in enumerate(batch):
        e = examples[i]
        ids = torch.tensor(np.concatenate([e.prompt_ids, e.target_ids]), dtype=torch.long)
        with torch.no_grad():
            logp = torch.log_softmax(model(input_ids=ids[None]).logits[0].double(), dim=-1)
        for t in np.flatnonzero(e.weights):
            value = float(logp[len(e.prompt_ids) + t - 1, int(e.target_ids[t])])
            tokens.append((row, value, float(e.columns["reference"][t]) - value))
    if method.scope == "batch":
        least = sorted((excess for _, _, excess in tokens), reverse=True)[round(0.6 * len(tokens)) - 1]
        weights = [float(excess >= least) for _, _, excess in tokens]
    else:
        weights = [np.exp(value) if method.name == "dft-rows" else 1.0 for _, value, _ in tokens]
    if method.denominator == "all":
        return sum(-w * value for w, (_, value, _) in zip(weights, tokens, strict=True)) / sum(
            len(examples[i].target_ids) for i in batch
        )
    total = 0.0
    for row in range(len(batch)):
        own = [-w * value for w, (r, value, _) in zip(weights, tokens, strict=True) if r == row and w > 0]
        total += sum(own) / len(own) if own else 0.0
    return total / len(batch)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_first_loss_equals_a_naive_loop(name: str, tmp_path: Path) -> None:
    examples = examples_for(6, seed=2)
    run(soft_model("llama"), examples, tmp_path, METHODS[name], microbatch_tokens=40, batch_size=4)
    (first, *_) = batches(6, 4, 1.0, 0)
    assert metrics(tmp_path)[0]["loss"] == pytest.approx(naive_first_loss(METHODS[name], examples, first), rel=1e-5)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(micro=st.integers(16, 200), seed=st.integers(0, 500), name=st.sampled_from(sorted(METHODS)))
def test_one_number_for_any_packing(micro: int, seed: int, name: str, tmp_path: Path) -> None:
    examples = examples_for(6, seed)
    lines = []
    for size in (100_000, micro):
        run(soft_model("llama"), examples, tmp_path, METHODS[name], microbatch_tokens=size, batch_size=6)
        lines.append(metrics(tmp_path)[0])
        (tmp_path / "metrics.jsonl").unlink()
    whole, cut = lines
    assert cut["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert cut["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-4)
    assert (cut["kept_tokens"], cut["nll"]) == (whole["kept_tokens"], pytest.approx(whole["nll"], rel=1e-5))


def test_a_batch_rule_is_called_once_a_step_in_the_order_of_the_rows(tmp_path: Path) -> None:
    calls: list[list[tuple[int, int]]] = []

    @dataclass(frozen=True)
    class Spy(TopShare):
        name = "spy"

        def online_weights(self, live: LiveTokens) -> Tensor:
            calls.append([(int(r), int(p)) for r, p in zip(live.row, live.position, strict=True)])
            return torch.ones_like(live.logp)

    examples = examples_for(8, seed=4)
    run(soft_model("llama"), examples, tmp_path / "spy", Spy(), microbatch_tokens=32)
    run(soft_model("llama"), examples, tmp_path / "sft", replace(Sft()), microbatch_tokens=32)
    assert len(calls) == 2
    assert all(call == sorted(call) for call in calls)
    assert sum(map(len, calls)) == sum(int((e.weights > 0).sum()) for e in examples)


def test_a_batch_without_weight_is_not_shown_to_a_rule(tmp_path: Path) -> None:
    """A rule may take medians and the like, which an empty batch has not."""
    examples = [replace(e, weights=e.weights * (i == 0)) for i, e in enumerate(examples_for(4, seed=1))]
    run(soft_model("llama"), examples, tmp_path, TopShare(), batch_size=1)
    assert sorted(line["kept_tokens"] > 0 for line in metrics(tmp_path)) == [False, False, False, True]


def test_a_row_without_weight_counts_as_zero(tmp_path: Path) -> None:
    """So the share of each target is the same whatever a rule masks elsewhere."""
    examples = make_examples(4, seed=1)
    run(soft_model("llama"), examples[:1], tmp_path / "one", RowMean())
    silent = [examples[0], *(replace(e, weights=np.zeros_like(e.weights)) for e in examples[1:])]
    run(soft_model("llama"), silent, tmp_path / "four", RowMean())
    one, four = (metrics(tmp_path / name)[0]["loss"] for name in ("one", "four"))
    assert four == pytest.approx(one / 4, rel=1e-6)


def test_nll_and_clipping_are_logged(tmp_path: Path) -> None:
    """The unweighted nll beside a weighted loss, and whether the gradient was cut."""
    examples = make_examples(8, seed=3)
    halved = [replace(e, weights=e.weights / 2) for e in examples]
    result = run(soft_model("llama"), halved, tmp_path / "a", grad_clip=1e-3)
    lines = metrics(tmp_path / "a")
    assert all(line["nll"] == pytest.approx(2 * line["loss"], rel=1e-6) for line in lines)
    assert [line["clipped"] for line in lines] == [True, True]
    tokens = [line["kept_tokens"] for line in lines]
    assert result.nll == pytest.approx(np.average([line["nll"] for line in lines], weights=tokens))
    assert result.clipped_steps == 2
    free = run(soft_model("llama"), halved, tmp_path / "b", grad_clip=0.0)
    assert (free.clipped_steps, metrics(tmp_path / "b")[0]["clipped"]) == (0, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"denominator": "row"}, "has denominator 'row'; use one of kept, all, rows"),
        ({"scope": "epoch", "online": True}, "has scope 'epoch'; use one of token, batch"),
        ({"scope": "batch", "online_weights": Method.online_weights, "online": False}, "has scope 'batch' but no"),
    ],
)
def test_bad_attributes_are_refused(changes: dict[str, Any], message: str) -> None:
    bad = dataclass(frozen=True)(type("Bad", (TopShare,), {"name": "bad", **changes}))
    with pytest.raises(PluginError, match=message):
        validate_method(bad, "file.py")
