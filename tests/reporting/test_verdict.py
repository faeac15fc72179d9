"""The sentence at the head of a report."""

from __future__ import annotations

from dasd_bench.reporting.report.verdict import verdict
from dasd_bench.reporting.scores import run_table
from dasd_bench.results.schema import RunResults
from tests import made_results as build


def verdict_of(*runs: RunResults) -> list[str]:
    return verdict(runs, run_table(list(runs)), "base")


def test_differences_are_named_with_their_direction_and_size() -> None:
    tasks = [build.make_task("a", 20), build.make_task("b", 20)]
    base = {"a": build.make_score("0" * 20, "a"), "b": build.make_score("1" * 20, "b")}
    sft = build.make_arm("sft", {0: {"a": build.make_score("1" * 20, "a"), "b": build.make_score("0" * 20, "b")}})
    assert verdict_of(build.make_run(tasks=tasks, base=base, arms=[sft])) == [
        "Significantly better than base: sft on a by +100.0 points.",
        "Significantly worse than base: sft on b by -100.0 points.",
        "2 paired tests, p < .05 after Holm's correction.",
    ]


def test_no_difference_is_said_and_no_test_says_nothing() -> None:
    same = build.make_arm("sft", {0: {"gsm8k": build.make_score("1" * 10 + "0" * 10)}})
    base = {"gsm8k": build.make_score("1" * 10 + "0" * 10)}
    assert verdict_of(build.make_run(base=base, arms=[same])) == [
        "No method differs significantly from base (one paired test, p < .05)."
    ]
    assert verdict_of(build.make_run(base=base, arms=[])) == []
