"""Calibration and controls of gates: counts by hand, other references, and whole decodings on a tiny model."""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dasd_bench.errors import DataError, UsageError
from dasd_bench.methods.base import Method, build_method
from dasd_bench.methods.context import DualGeneration, RunFacts
from dasd_bench.methods.gate_controls import (
    confidence_thresholds,
    disagreements,
    replacement_counts,
    with_reference,
)
from dasd_bench.registry import discover
from dasd_bench.run.method_context import EngineMethodContext
from dasd_bench.types import Example, Origin
from tests.methods.test_method_context import Made
from tests.methods.test_methods import decoded

plugins = functools.cache(discover)


def dasd(**options: object) -> Method:
    return build_method(plugins().method("dasd").item, options)


def with_conf(one: DualGeneration, conf: Sequence[float]) -> DualGeneration:
    from dataclasses import replace

    return replace(one, base_top1_logp=np.log(np.array(conf, dtype=np.float32)))


def example(number: int, reference: str, task: str = "t", answer: str | None = "7") -> Example:
    return Example(f"{task}/train/{number}", task, f"q{number}", reference, answer)


def test_counts_are_of_steps_where_a_gate_has_a_say() -> None:
    one = decoded([1, 2, 3, 4], [1, 9, 9, 9], [0, 0, 1, 0], [0, 1, 0, 0])
    assert disagreements(one).tolist() == [False, True, False, True]
    assert replacement_counts([one, decoded([1], [1], [0], [0])]) == [(1.0, 2.0), (0.0, 0.0)]


@settings(max_examples=60, deadline=None)
@given(
    conf=st.lists(st.floats(0.015625, 1.0, width=32), min_size=1, max_size=12, unique=True),
    share=st.floats(0, 1),
    agree=st.integers(0, 3),
)
def test_thresholds_replace_the_stated_share_of_the_disagreements(conf: list[float], share: float, agree: int) -> None:
    """Counted by hand; steps where the streams agree have no say, however sure the base is."""
    size = len(conf) + agree
    one = with_conf(decoded([1] * size, [9] * len(conf) + [1] * agree, [0] * size, [0] * size), [*conf, *[1.0] * agree])
    (threshold,) = confidence_thresholds([one], share)
    sure = np.exp(one.base_top1_logp)[: len(conf)]
    replaced = sum(float(np.float32(value)) >= threshold for value in sure)
    wanted = math.floor(share * len(conf) + 0.5)
    assert replaced >= wanted
    assert replaced == wanted or len(set(sure.tolist())) < len(conf), "only ties replace more"


def test_no_disagreement_replaces_nothing() -> None:
    assert confidence_thresholds([decoded([1], [1], [0], [0])], 1.0) == [math.inf]
    assert confidence_thresholds([with_conf(decoded([1], [9], [0], [0]), [0.5])], 0.0) == [math.inf]


def test_references_are_swapped_within_a_task_and_never_for_equal_ones() -> None:
    rows = [example(0, "a"), example(0, "x", "other"), example(1, "a"), example(2, "b"), example(1, "y", "other")]
    assert [one.reference for one in with_reference(rows, "swapped")] == ["b", "y", "b", "a", "x"]
    assert [one.id for one in with_reference(rows, "swapped")] == [one.id for one in rows]
    assert with_reference(rows, "own") == rows
    for alone in ([example(0, "a")], [example(0, "a"), example(1, "a")]):
        with pytest.raises(DataError, match="two training examples of its task that differ"):
            with_reference(alone, "swapped")


def test_answer_only_shows_the_final_answer_and_refuses_tasks_without_one() -> None:
    assert [one.reference for one in with_reference([example(0, "long"), example(1, "x")], "answer-only")] == ["7", "7"]
    with pytest.raises(DataError, match="t/train/0: the task gives no final answer"):
        with_reference([example(0, "def f(): ...", answer=None)], "answer-only")


def test_options_that_contradict_are_refused() -> None:
    with pytest.raises(UsageError, match="needs reference_model=tuned"):
        dasd(prompt="plain")
    for rule in ("random-gate", "ungated", "loss-mask"):
        with pytest.raises(UsageError, match="nothing to be matched to"):
            dasd(rule=rule, control="shuffled")
    assert not dasd().trains
    assert dasd(reference_model="tuned", prompt="plain").trains
    facts = RunFacts("vllm", "auto", False, True, ("t",))
    assert not dasd().lacking(facts)
    assert "leave out --engine vllm" in dasd(reference_model="tuned").lacking(facts)


def test_every_rule_has_a_gate_of_its_own_or_is_made_otherwise() -> None:
    from dasd_bench.methods.gate_rules import BY_NAME

    module = sys.modules[plugins().method("dasd").item.__module__]
    rules = set(module.OPTIONS)
    assert set(BY_NAME) <= rules
    assert rules - set(BY_NAME) == {"quantile", "style-oracle", "logic-oracle", "random-gate", "loss-mask"}
    fields = set(type(dasd()).__dataclass_fields__)
    for rule, names in module.OPTIONS.items():
        assert set(names) <= fields
        if rule in BY_NAME:
            assert set(names) == {f.name for f in dataclasses.fields(BY_NAME[rule])}


@pytest.fixture(scope="module")
def made(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tiny_folder("llama"), tmp_path_factory.mktemp("gates"), method="dasd")


def context_of(made: Made, method: Method) -> EngineMethodContext:
    from dataclasses import replace

    return EngineMethodContext(made.run, replace(made.arm, method=method), 0, made.examples)


def gated(made: Made, **options: Any) -> list[DualGeneration]:
    method: Any = dasd(**options)
    context = context_of(made, method)
    found: list[DualGeneration] = method._decode(method._streams(made.examples, context), context)
    return found


def tokens(found: Sequence[DualGeneration]) -> list[list[int]]:
    return [one.token_ids.tolist() for one in found]


def test_ungated_decoding_is_the_rewrite_up_to_rounding(made: Made) -> None:
    """The rounding floor: what broke and fixed count where no candidate is ever replaced. Here nothing differs."""
    targets = dasd(rule="ungated").make_targets(made.examples, context_of(made, dasd(rule="ungated")))
    assert [one.notes["gated_changed"] for one in targets] == [0.0] * 4
    assert sum(one.notes["gated_replaced"] for one in targets) == 0


def test_shuffled_replaces_as_often_as_the_rule_in_each_example_and_elsewhere(made: Made) -> None:
    options: dict[str, Any] = {"rule": "margin", "mu": 0.01, "keep": "none"}
    own, shuffled = gated(made, **options), gated(made, control="shuffled", **options)
    assert sum(n for n, _ in replacement_counts(own)) > 0
    for (wanted, m), (found, others) in zip(replacement_counts(own), replacement_counts(shuffled), strict=True):
        assert found == wanted or others < m
        assert found <= wanted
    assert tokens(gated(made, control="shuffled", **options)) == tokens(shuffled), "drawn from the run's seed"


def test_random_replaces_at_the_rate_of_any_rule(made: Made) -> None:
    method: Any = dasd(rule="margin", mu=0.0, control="random", keep="none")
    context = context_of(made, method)
    found = method._decode(method._streams(made.examples, context), context)
    assert method.stochastic()
    assert all((one.origin == Origin.BASE).tolist() == disagreements(one).tolist() for one in found), "rate 1"


def test_quantile_replaces_its_share_of_each_ungated_answer(made: Made) -> None:
    """Up to the first replacement both follow the ungated answer, so share 0 is that and share 1 the base's own."""
    free = gated(made, rule="ungated", keep="none")
    assert tokens(gated(made, rule="quantile", share=0.0, keep="none")) == tokens(free)
    some = gated(made, rule="quantile", share=0.3, keep="none")
    thresholds = confidence_thresholds(free, 0.3)
    for one, threshold in zip(some, thresholds, strict=True):
        sure = np.exp(one.base_top1_logp) >= threshold - 1e-6
        replaced = one.origin == Origin.BASE
        assert not np.any(replaced & ~sure)


def test_a_swapped_reference_is_shown_and_the_answer_is_graded_by_the_own(made: Made) -> None:
    method: Any = dasd(reference="swapped")
    context = context_of(made, method)
    streams = method._streams(made.examples, context)
    shown = [str(chat) for chat in streams.reference]
    first, second = made.examples[0], made.examples[1]
    assert second.reference in "".join(turn.content for turn in streams.reference[0])
    assert first.reference not in "".join(turn.content for turn in streams.reference[0])
    assert first.prompt in "".join(turn.content for turn in streams.reference[0])
    assert len(set(shown)) == len(shown)
    targets = method.make_targets(made.examples, context)
    assert [one.text for one in targets] == [one.reference for one in made.examples], "nothing right: gold, its own"


def test_a_tuned_reference_decodes_with_weights_of_its_own(made: Made) -> None:
    """tau above 1 is the tuned model's own greedy answer; tau 0 the base's."""
    options: dict[str, Any] = {"rule": "confidence-gate", "reference_model": "tuned", "prompt": "plain", "keep": "none"}
    method: Any = dasd(tau=2.0, **options)
    context = context_of(made, method)
    streams = method._streams(made.examples, context)
    assert streams.model is not None
    assert streams.reference == streams.plain
    free = method._decode(streams, context)
    for found, model in ((free, streams.model), (gated(made, tau=0.0, **options), None)):
        plain = context.generate(streams.plain, max_new_tokens=streams.budgets, model=model)
        assert tokens(found) == [one.token_ids.tolist() for one in plain]  # type: ignore[arg-type]


def test_a_gate_that_does_next_to_nothing_is_named_at_once(made: Made) -> None:
    method = dasd(rule="confidence-gate", tau=0.999)
    context = context_of(made, method)
    before = len(made.run.console.warnings)
    method.make_targets(made.examples, context)
    said = made.run.console.warnings[before:]
    assert any("dasd confidence-gate tau=0.999: the gate replaced only 0.0 %" in line for line in said)
    assert any("in effect self-distill" in line for line in said)
    quiet = dasd(rule="ungated")
    before = len(made.run.console.warnings)
    quiet.make_targets(made.examples, context_of(made, quiet))
    assert made.run.console.warnings[before:] == []
