"""The main table, from runs whose numbers can be checked on paper."""

from __future__ import annotations

from statistics import stdev
from types import SimpleNamespace

import pytest

from dasd_bench.errors import DasdError, UsageError
from dasd_bench.reporting.details import target_table
from dasd_bench.reporting.entries import find_entry, task_infos
from dasd_bench.reporting.retention import retention_tables
from dasd_bench.reporting.scores import item_interval, run_table
from dasd_bench.reporting.table import MISSING, Row, Table, choose_columns, sort_rows
from dasd_bench.results.schema import RunResults
from dasd_bench.stats.intervals import wilson
from dasd_bench.stats.paired import mcnemar_exact


def row(table: Table, label: str) -> Row:
    return next(row for row in table.rows if row.label == label)


def test_one_run_one_seed(build: SimpleNamespace) -> None:
    table = run_table([build.run()])
    assert [r.label for r in table.rows] == ["base", "sft", "dasd"]
    base, sft, dasd = (row(table, name).cell("gsm8k") for name in ("base", "sft", "dasd"))
    assert [cell.value for cell in (base, sft, dasd)] == [0.5, 0.6, 0.75]
    assert [cell.text for cell in (base, sft, dasd)] == ["50.0", "60.0", "75.0"]
    assert [cell.rank for cell in (base, sft, dasd)] == [0, 2, 1]
    assert (base.low, base.high) == (wilson(10, 20).low, wilson(10, 20).high)
    assert base.detail == "[29.9, 70.1]"
    versus = row(table, "sft").cell("gsm8k:vs")
    assert versus.plain == "+4/-2 p=.69"
    assert versus.p == mcnemar_exact(4, 2) == 2 * (1 + 6 + 15) / 64
    assert row(table, "dasd").cell("gsm8k:vs").p_holm == 2 * 2 / 32
    assert row(table, "sft").cell("gsm8k:nll").text == "0.900"
    assert row(table, "sft").cell("gsm8k:nll").rank == 1, "the lowest nll is the best"
    assert row(table, "sft").cell("delta").value == pytest.approx(0.1)
    assert row(table, "base").cell("delta").text == MISSING
    assert table.warnings == []


@pytest.mark.parametrize("seeds", [("1", "0", "0"), ("11", "00", "00"), ("000", "000", "000")])
def test_items_of_one_mean_have_an_interval_of_some_width(build: SimpleNamespace, seeds: tuple[str, ...]) -> None:
    """A single item that one seed of three got right once stood there without an interval, as if it were certain."""
    scores = [build.score(correct) for correct in seeds]
    info = task_infos([build.run()])[0]
    found = item_interval(info, scores)
    share = sum(map(int, "".join(seeds))) / len("".join(seeds))
    assert found is not None
    assert found.low <= share <= found.high
    assert found.high - found.low > 0.5


def test_one_seed_claims_no_spread(build: SimpleNamespace) -> None:
    table = run_table([build.run()])
    assert all("±" not in cell.plain for r in table.rows for cell in r.cells.values())
    assert any("seed variance unknown" in line for line in table.caption)


def test_several_seeds_give_mean_and_spread(build: SimpleNamespace) -> None:
    seeds = {0: {"gsm8k": build.score("1" * 12 + "0" * 8)}, 1: {"gsm8k": build.score("1" * 15 + "0" * 5)}}
    table = run_table([build.run(arms=[build.arm("sft", seeds)], seeds=[0, 1])])
    cell = row(table, "sft").cell("gsm8k")
    assert cell.value == pytest.approx((0.6 + 0.75) / 2)
    assert cell.spread == pytest.approx(stdev([0.6, 0.75]))
    assert cell.plain == "67.5 ± 10.6"
    assert cell.low is not None
    assert cell.low < cell.value < cell.high
    # items 10 and 11 are won by both seeds, 12 to 14 by one: 5 wins, and whole-number differences 2, 2, 1, 1, 1
    versus = row(table, "sft").cell("gsm8k:vs")
    assert versus.plain.startswith("+5/-0")
    assert versus.p == pytest.approx(2 / 32)
    assert any("2 seeds (0, 1)" in line for line in table.caption)


def test_values_are_never_taken_from_rounded_text(build: SimpleNamespace) -> None:
    tasks = [build.task("a", 3), build.task("b", 7)]
    base = {"a": build.score("100", "a"), "b": build.score("1000000", "b")}
    arm = build.arm("sft", {0: {"a": build.score("110", "a"), "b": build.score("1100000", "b")}})
    table = run_table([build.run(tasks=tasks, base=base, arms=[arm])])
    assert row(table, "base").cell("average").value == pytest.approx((1 / 3 + 1 / 7) / 2, abs=1e-15)
    assert row(table, "sft").cell("delta").value == pytest.approx((1 / 3 + 1 / 7) / 2, abs=1e-15)
    assert row(table, "sft").cell("delta").text == "+23.8"


def test_none_and_all_right(build: SimpleNamespace) -> None:
    arms = [build.arm("sft", {0: {"gsm8k": build.score("1" * 20)}})]
    table = run_table([build.run(base={"gsm8k": build.score("0" * 20)}, arms=arms)])
    assert row(table, "base").cell("gsm8k").plain == "0.0 [0.0, 16.1]"
    assert row(table, "sft").cell("gsm8k").text == "100.0"
    assert row(table, "sft").cell("gsm8k").mark == "**"
    assert row(table, "sft").cell("gsm8k:vs").plain == "+20/-0 p<.001**"


def test_all_seeds_all_right_still_has_an_interval(build: SimpleNamespace) -> None:
    arms = [build.arm("sft", {s: {"gsm8k": build.score("1" * 20)} for s in (0, 1)})]
    cell = row(run_table([build.run(arms=arms, seeds=[0, 1])]), "sft").cell("gsm8k")
    assert (cell.low, cell.high) == (pytest.approx(1 - 0.1611, abs=1e-4), 1.0)
    assert cell.spread == 0.0


def test_equal_scores_have_no_best(build: SimpleNamespace) -> None:
    same = {"gsm8k": build.score("1100" * 5)}
    table = run_table([build.run(base=same, arms=[build.arm("sft", {0: same})])])
    assert [r.cell("gsm8k").rank for r in table.rows] == [0, 0]
    assert row(table, "sft").cell("gsm8k:vs").plain == "+0/-0 p=1"


def test_ties_share_the_first_place(build: SimpleNamespace) -> None:
    best = {"gsm8k": build.score("1" * 15 + "0" * 5)}
    table = run_table([build.run(arms=[build.arm("a", {0: best}), build.arm("b", {0: best})])])
    assert [r.cell("gsm8k").rank for r in table.rows] == [0, 1, 1]


def test_partial_run_is_marked_and_not_averaged(build: SimpleNamespace) -> None:
    tasks = [build.task("gsm8k", 20), build.task("arc", 20)]
    base = {"gsm8k": build.score("10" * 10), "arc": build.score("10" * 10, "arc")}
    half = build.arm("sft", {0: {"gsm8k": build.score("11" * 10)}})
    short = build.arm("dasd", {0: {"gsm8k": build.score("1" * 12), "arc": build.score("1" * 20, "arc")}})
    table = run_table([build.run(status="partial", tasks=tasks, base=base, arms=[half, short], methods=["profit"])])
    assert [r.label for r in table.rows] == ["base", "sft †", "dasd †"]
    assert row(table, "sft †").cell("average").text == MISSING
    assert row(table, "sft †").cell("arc").text == MISSING
    cell = row(table, "dasd †").cell("gsm8k")
    assert (cell.mark, cell.sound, cell.rank, cell.n) == ("†", False, 0, 12)
    assert row(table, "dasd †").cell("gsm8k:vs").text == MISSING, "12 items cannot be paired with 20 by position"
    text = " ".join(table.warnings)
    assert "Run r1 is partial" in text
    assert "sft: arc not finished; dasd: gsm8k 12 of 20 items" in text
    assert "no result for profit" in text
    assert "dasd and base were scored on different items of gsm8k" in text
    assert table.title.endswith("(partial run)")


def test_missing_seed_is_partial(build: SimpleNamespace) -> None:
    table = run_table([build.run(seeds=[0, 1])])
    assert row(table, "sft †").cell("gsm8k").mark == "†"
    assert "sft: gsm8k 1 of 2 seeds" in " ".join(table.warnings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "cancelled"}, "r1 was cancelled, so it has no table; rerun its command"),
        ({"base": {}, "arms": []}, "r1 has no finished task; rerun its command"),
    ],
)
def test_refused_runs(build: SimpleNamespace, changes: dict[str, object], message: str) -> None:
    with pytest.raises(DasdError, match=message):
        run_table([build.run(**changes)])


def test_another_baseline(build: SimpleNamespace) -> None:
    table = run_table([build.run()], baseline="sft")
    assert row(table, "sft").cell("gsm8k:vs").text == MISSING
    assert row(table, "base").cell("gsm8k:vs").plain.startswith("+2/-4")
    assert row(table, "dasd").cell("gsm8k:vs").plain.startswith("+3/-0"), "items 8, 9 and 14"
    with pytest.raises(UsageError, match=r"has no row 'sfd'\. Did you mean 'sft'\?"):
        run_table([build.run()], baseline="sfd")


def test_several_models_are_groups_ranked_apart(build: SimpleNamespace) -> None:
    table = run_table([build.run("a"), build.run("b", model="qwen3-4b"), build.run("c")])
    groups = table.groups()
    assert [name for name, _ in groups] == ["smollm2-135m (a)", "qwen3-4b", "smollm2-135m (c)"]
    assert [r.cell("gsm8k").rank for _, rows in groups for r in rows] == [0, 2, 1] * 3
    assert table.warnings == []
    assert any("correction for 6 tests" in line for line in table.caption)


def test_runs_that_are_not_comparable_say_why(build: SimpleNamespace) -> None:
    other = build.run("b", conditions={"dtype": "bfloat16", "chat template": "abc"}, tasks=[build.task(version=4)])
    text = " ".join(run_table([build.run("a"), other]).warnings)
    assert "Runs a and b are not comparable" in text
    assert "dtype differs (float32 and bfloat16)" in text
    assert "data gsm8k is known for one run only" in text
    assert "gsm8k: version differs (3 and 4)" in text


def test_lower_is_better_metric(build: SimpleNamespace) -> None:
    info = build.task("wiki", 3, higher_is_better=False, percent=False, metric="word_perplexity")

    def graded(values: list[float]) -> object:
        return build.score("000", "wiki").from_items(["1", "2", "3"], scores=values)

    arms = [build.arm("sft", {0: {"wiki": graded([9.0, 8.0, 7.0])}})]
    table = run_table([build.run(tasks=[info], base={"wiki": graded([10.0, 11.0, 12.0])}, arms=arms)])
    assert row(table, "sft").cell("wiki").text == "8.000"
    assert row(table, "sft").cell("wiki").rank == 1
    assert row(table, "sft").cell("wiki:vs").plain.startswith("+3/-0")
    assert "average" not in {column.key for column in table.columns}


def test_retention_is_the_mean_relative_change(build: SimpleNamespace) -> None:
    """(after - before) / before: +20 % on the trained task; -50 % and 0 % on the two others."""
    tasks = [build.task("gsm8k"), build.task("boolq", retention=True), build.task("piqa", retention=True)]
    names = ("gsm8k", "boolq", "piqa")
    base = {name: build.score("10" * 10, name) for name in names}
    after = {
        "gsm8k": build.score("1" * 12 + "0" * 8),
        "boolq": build.score("1" * 5 + "0" * 15, "boolq"),
        "piqa": build.score("01" * 10, "piqa"),
    }
    table = run_table([build.run(tasks=tasks, base=base, arms=[build.arm("sft", {0: after})])])
    assert row(table, "sft").cell("ti").value == pytest.approx(0.2)
    assert row(table, "sft").cell("bwt").value == pytest.approx(-0.25)
    assert row(table, "sft").cell("bwt").text == "-25.0"


def power_text(run: RunResults) -> str:
    return " ".join(run_table([run]).sentences(notes=True))


def test_power_line_is_that_of_the_corrected_test(build: SimpleNamespace) -> None:
    text = power_text(build.run())
    # Two tests: p < .025 takes 7 items, 35 points of 20; sft changed 6 items and dasd 5, each by the whole.
    assert "Holm's correction for 2 tests). Minimum detectable difference (80 % power, corrected): gsm8k" in text
    assert "can be significant: gsm8k 35.0." in text
    assert "At least 7 items must change in the same direction." in text
    tiny = build.run(tasks=[build.task(n=3)], base={"gsm8k": build.score("100")}, arms=[])
    tiny.arms = [build.arm("sft", {0: {"gsm8k": build.score("110")}})]
    assert "gsm8k cannot reach p < .05 (3 items, 6 must change)" in power_text(tiny)


def test_power_line_counts_seeds_and_does_not_average_over_methods(build: SimpleNamespace) -> None:
    """Three seeds x 32 items: 6 of 96 at the least; two methods with unlike changes give a range."""
    zeros = "0" * 32
    once = {seed: {"gsm8k": build.score(("1" * 3 if seed == 0 else "000") + zeros[3:])} for seed in range(3)}
    always = {seed: {"gsm8k": build.score("1" * 3 + zeros[3:])} for seed in range(3)}
    run = build.run(tasks=[build.task(n=32)], base={"gsm8k": build.score(zeros)}, seeds=[0, 1, 2])
    run.arms = [build.arm("sft", once)]
    assert "can be significant: gsm8k 6.2." in power_text(run)
    assert "(80 % power): gsm8k 7.9 points." in power_text(run)
    run.arms.append(build.arm("dasd", always))
    assert "can be significant: gsm8k 7.3." in power_text(run)
    assert "(80 % power, corrected): gsm8k 9.0 to 27.1 points." in power_text(run)


def test_what_a_method_says_of_its_row_is_in_captions_and_warnings(build: SimpleNamespace) -> None:
    run = build.run()
    assert not target_table([run]).warnings
    run.arms[1].remark = "the gate did next to nothing"
    words = "dasd: the gate did next to nothing."
    assert words in run_table([run]).caption
    assert words in target_table([run]).caption
    assert target_table([run]).warnings == [words]


def test_notes_explain_only_columns_that_are_shown(build: SimpleNamespace) -> None:
    table = run_table([build.run()])
    assert len(table.caption) == 2
    assert any("items gained/lost" in text for text in table.sentences(notes=True))
    alone = choose_columns(table, ["gsm8k", "delta"])
    assert not any("items gained/lost" in text or "NLL" in text for text in alone.sentences(notes=True))


def test_the_average_has_an_interval_with_one_seed(build: SimpleNamespace) -> None:
    """MOVER over two tasks with the same scores: each end is nearer by the square root of 2."""
    tasks = [build.task("a"), build.task("b")]
    scores = {name: build.score("1" * 12 + "0" * 8, name) for name in ("a", "b")}
    table = run_table([build.run(tasks=tasks, base=scores, arms=[])])
    cell, alone = table.rows[0].cell("average"), wilson(12, 20)
    assert cell.low == pytest.approx(0.6 - (0.6 - alone.low) / 2**0.5)
    assert cell.high == pytest.approx(0.6 + (alone.high - 0.6) / 2**0.5)


def test_caption_says_what_is_comparable_and_the_denominators(build: SimpleNamespace) -> None:
    run = build.run(tasks=[build.task(comparable=False, note="zero-shot chat prompt")])
    run.arms[1].denominator = "all"
    text = " ".join(run_table([run]).sentences(notes=True))
    assert "gsm8k v3: exact_match, filter flexible-extract, 5-shot, own variant" in text
    assert "(zero-shot chat prompt)" in text
    assert "kept (sft); all (dasd)" in text
    assert "LoRA r=16 on all-linear, lr 0.0002, batch 8, 2 epochs; equal budget of examples" in text


def test_columns_and_sorting(build: SimpleNamespace) -> None:
    table = run_table([build.run()])
    assert [c.key for c in choose_columns(table, ["delta", "gsm8k:nll*"]).columns] == [
        "delta",
        "gsm8k:nll",
        "gsm8k:nll_numeric",
    ]
    assert [r.label for r in sort_rows(table, "gsm8k").rows] == ["dasd", "sft", "base"]
    assert [r.label for r in sort_rows(table, "gsm8k:nll").rows] == ["sft", "dasd", "base"]
    assert [r.label for r in sort_rows(table, "delta").rows] == ["dasd", "sft", "base"], "empty cells go last"
    assert [r.label for r in sort_rows(table, "method").rows] == ["base", "dasd", "sft"]
    with pytest.raises(UsageError, match=r"Unknown column 'gsm9k'\. Did you mean 'gsm8k'"):
        choose_columns(table, ["gsm9k"])
    with pytest.raises(UsageError, match=r"Unknown column 'delt' to sort by\. Did you mean 'delta'"):
        sort_rows(table, "delt")


def test_seeds_of_several_runs_are_not_added_up(build: SimpleNamespace) -> None:
    """Two runs of one seed each: no row has a spread, so that the caption claims none."""

    def one(name: str, seed: int, n: int = 20) -> RunResults:
        arms = [build.arm("sft", {seed: {"gsm8k": build.score("1" * n)}})]
        base = {"gsm8k": build.score("10" * (n // 2))}
        found: RunResults = build.run(
            name, seeds=[seed], arms=arms, base=base, tasks=[build.task(n=n)], methods=["sft"]
        )
        return found

    text = " ".join(run_table([one("a", 0), one("b", 1)]).caption)
    assert "±" not in text
    assert "2 seeds" not in text
    assert "n: gsm8k 20 test items. a: one seed (0), seed variance unknown" in text
    assert "b: one seed (1), seed variance unknown" in text
    text = " ".join(run_table([one("a", 0), one("b", 0, 10)]).caption)
    assert "n: gsm8k 20 in a, 10 in b test items; one seed (0)" in text


def test_a_spread_is_over_the_seeds_of_its_own_run(build: SimpleNamespace) -> None:
    score = {"gsm8k": build.score("1" * 12 + "0" * 8)}
    three = build.run("c", seeds=[0, 1, 2], arms=[build.arm("sft", {0: score, 1: score, 2: score})], methods=["sft"])
    text = " ".join(run_table([build.run("a"), three]).caption)
    assert "a: one seed (0)" in text
    assert "c: 3 seeds (0, 1, 2)" in text
    assert "±: standard deviation over the seeds of the row's run" in text
    alike = " ".join(run_table([three]).caption)
    assert "20 test items; 3 seeds (0, 1, 2)." in alike
    assert "±: standard deviation over 3 seeds" in alike


def test_a_base_at_zero_has_no_relative_change_and_is_named(build: SimpleNamespace) -> None:
    tasks = [build.task("gsm8k"), build.task("boolq", retention=True), build.task("piqa", retention=True)]
    scores = {"gsm8k": "10" * 10, "boolq": "0" * 20, "piqa": "10" * 10}
    base = {name: build.score(bits, name) for name, bits in scores.items()}
    after = {name: build.score("1" * 10 + "0" * 10, name) for name in scores}
    run = build.run(tasks=tasks, base=base, arms=[build.arm("sft", {0: after})], methods=["sft"])
    told = "Excluded from the mean relative change, because base scores 0: boolq."
    assert told in run_table([run]).sentences(notes=True)
    assert told in retention_tables([run])[0].sentences(notes=True)
    base["boolq"] = base["piqa"]
    assert not any("Left out" in line for line in [*run_table([run]).caption, *retention_tables([run])[0].caption])


def test_a_failed_row_is_not_hidden_by_another_of_its_method(build: SimpleNamespace) -> None:
    arm = build.arm("dasd", {0: {"gsm8k": build.score("10" * 10)}}, label="dasd+tau=0.5", folder="dasd+tau=0.5")
    table = run_table([build.run(arms=[arm], methods=["dasd", "dasd+tau=0.5"])])
    assert "Run r1 has no result for dasd." in table.warnings


def test_a_baseline_of_several_rows_is_refused(build: SimpleNamespace) -> None:
    score = {0: {"gsm8k": build.score("10" * 10)}}
    labels = ["dasd+tau=0.5", "dasd+tau=0.7"]
    arms = [build.arm("dasd", score, label=label, folder=label) for label in labels]
    run = build.run(arms=arms, methods=labels)
    with pytest.raises(UsageError, match=r"2 rows of the method 'dasd': dasd\+tau=0.5, dasd\+tau=0.7; name one"):
        run_table([run], baseline="dasd")
    assert run_table([run], baseline="dasd+tau=0.7").rows
    run.arms.pop()
    assert run_table([run], baseline="dasd").rows[0].cell("gsm8k:vs").text != MISSING, "one row: no doubt which"
    plain = build.arm("dasd", score)
    run.arms += [plain, build.arm("dasd", score, label="dasd+tau=0.9", folder="dasd+tau=0.9")]
    assert find_entry(run, "dasd").arm is plain
