"""``table --group-by``: what is unfinished, what is asked for beside it, and the order of levels."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from dasd_bench.cli.table_cmd import table_command
from dasd_bench.errors import UsageError
from dasd_bench.reporting.details import group_table, natural
from dasd_bench.reporting.plots import Nothing, Plot, Source, draw
from dasd_bench.results.schema import RunResults
from dasd_bench.stats.paired import mcnemar_exact

LEVELS = "1" * 10 + "2" * 10


@pytest.fixture
def leveled(build: SimpleNamespace) -> RunResults:
    """Two levels of ten items. sft is whole; dasd lacks a seed; low-ppl lacks five items in one of its seeds."""
    whole = {"gsm8k": build.score("1" * 12 + "0" * 8, levels=LEVELS)}
    high = {"gsm8k": build.score("1" * 20, levels=LEVELS)}
    short = {"gsm8k": build.score("1" * 15, levels=LEVELS[:15])}
    arms = [
        build.arm("sft", {0: whole, 1: whole}),
        build.arm("dasd", {0: high}),
        build.arm("low-ppl", {0: high, 1: short}),
    ]
    base = {"gsm8k": build.score("1" * 10 + "0" * 10, levels=LEVELS)}
    found: RunResults = build.run(base=base, arms=arms, seeds=[0, 1], methods=["sft", "dasd", "low-ppl"])
    return found


def test_unfinished_rows_are_marked_warned_of_and_not_ranked(leveled: RunResults) -> None:
    table = group_table([leveled], "level")
    assert [row.label for row in table.rows] == ["base", "sft", "dasd †", "low-ppl †"]
    cell = table.rows[2].cell("gsm8k:2")
    assert (cell.value, cell.sound, cell.rank) == (1.0, False, 0)
    assert cell.mark.endswith("†")
    assert [row.cell("gsm8k:2").rank for row in table.rows] == [0, 1, 0, 0], "the worse of two is no second"
    assert table.rows[3].cells == {}, "seeds on unlike items are not averaged"
    text = " ".join(table.warnings)
    assert "dasd: gsm8k 1 of 2 seeds" in text
    assert "low-ppl: gsm8k 15 of 20 items" in text


def test_by_seed_marks_short_seeds_and_ranks_the_others(leveled: RunResults) -> None:
    table = group_table([leveled], "seed")
    assert [row.label for row in table.rows[3:]] == ["dasd seed 0", "low-ppl seed 0", "low-ppl seed 1 †"]
    assert [row.cell("gsm8k").rank for row in table.rows] == [0, 0, 0, 1, 1, 0], "a tie for first leaves no second"
    assert "†" in table.rows[5].cell("gsm8k").plain
    assert "1 of 2 seeds" in " ".join(table.warnings)
    leveled.arms.pop()
    assert [row.cell("gsm8k").rank for row in group_table([leveled], "seed").rows] == [0, 2, 2, 1]


@pytest.mark.parametrize("by", ["level", "seed"])
def test_warnings_of_runs_stand_with_groups_too(by: str, leveled: RunResults, build: SimpleNamespace) -> None:
    leveled.status = "partial"
    leveled.methods.append("profit")
    other = build.run("r2", conditions={"dtype": "bfloat16"})
    text = " ".join(group_table([leveled, other], by).warnings)
    for words in ("Run r1 is partial", "no result for profit", "r1 and r2 are not comparable"):
        assert words in text


def test_marks_are_against_the_baseline(build: SimpleNamespace) -> None:
    base = {"gsm8k": build.score("0" * 20, levels=LEVELS)}
    arms = [
        build.arm("sft", {0: {"gsm8k": build.score("1" * 10 + "0" * 10, levels=LEVELS)}}),
        build.arm("dasd", {0: {"gsm8k": build.score("1" * 18 + "0" * 2, levels=LEVELS)}}),
    ]
    table = group_table([build.run(base=base, arms=arms)], "level", baseline="sft")
    assert table.rows[1].cell("gsm8k:1").p is None
    assert table.rows[2].cell("gsm8k:1").p == 1.0
    assert table.rows[2].cell("gsm8k:2").p == mcnemar_exact(8, 0)
    assert any("against sft, paired" in line for line in table.caption)
    with pytest.raises(UsageError, match="Did you mean 'sft'"):
        group_table([build.run(base=base, arms=arms)], "level", baseline="sfd")


def test_options_are_honoured_or_refused(leveled: RunResults, build: SimpleNamespace, tmp_path: Path) -> None:
    run = str(build.write(tmp_path, leveled))

    def call(*args: str) -> object:
        result = CliRunner().invoke(table_command, [run, *args])
        return result.exception or result.output

    assert "against sft, paired" in " ".join(str(call("--group-by", "level", "--baseline", "sft")).split())
    assert "has no row 'sfd'" in str(call("--group-by", "level", "--baseline", "sfd"))
    assert "--group-by seed compares no rows; omit --baseline" in str(call("--group-by", "seed", "--baseline", "sft"))
    assert "omit --table cost" in str(call("--group-by", "level", "--table", "cost"))
    assert "omit --table retention" in str(call("--group-by", "level", "--retention"))
    rows = json.loads(str(call("--group-by", "level", "-f", "json")))["tables"][0]
    assert rows["warnings"]


def test_unfinished_rows_are_left_out_of_the_plot(leveled: RunResults, build: SimpleNamespace, tmp_path: Path) -> None:
    path = build.write(tmp_path, leveled)
    (plot,) = draw([Source(path, leveled)], ["difficulty"])
    assert isinstance(plot, Plot)
    assert "sft: 1 100, 2 20" in plot.alt
    assert "dasd" not in plot.alt
    assert "Rows with missing seeds or items are omitted." in plot.caption
    leveled.base, leveled.arms = {}, leveled.arms[1:]
    (found,) = draw([Source(path, leveled)], ["difficulty"])
    assert isinstance(found, Nothing)
    assert "No row of these runs finished a task" in found.why


@pytest.mark.parametrize(
    "names",
    [
        ["1-3", "4-6", "7-10", "11+"],
        ["Level 1", "Level 2", "Level 10"],
        ["2", "9", "10", "100"],
        ["0.5", "1", "1.5", "12"],
        ["algebra", "geometry", "x²"],
    ],
)
def test_levels_are_in_the_order_of_their_numbers(names: list[str], build: SimpleNamespace) -> None:
    for seed in range(5):
        mixed = random.Random(seed).sample(names, len(names))
        score = build.score("1" * len(names))
        score.groups = {"level": mixed}
        run = build.run(tasks=[build.task(n=len(names))], base={"gsm8k": score}, arms=[])
        columns = group_table([run], "level").columns
        assert [column.key for column in columns] == [f"gsm8k:{name}" for name in names]


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_whole_numbers_sort_as_numbers(numbers: list[int]) -> None:
    assert sorted(map(str, numbers), key=natural) == list(map(str, sorted(numbers)))


@given(st.lists(st.text(max_size=8)))
def test_any_name_can_be_sorted(names: list[str]) -> None:
    assert all(natural(a) <= natural(b) for a, b in pairwise(sorted(names, key=natural)))


def test_levels_of_a_second_run_find_their_place(build: SimpleNamespace) -> None:
    def one(name: str, levels: str) -> RunResults:
        score = build.score("1" * 4, levels=levels)
        found: RunResults = build.run(name, tasks=[build.task(n=4)], base={"gsm8k": score}, arms=[], methods=[])
        return found

    table = group_table([one("a", "1133"), one("b", "1222")], "level")
    assert [column.key for column in table.columns] == ["gsm8k:1", "gsm8k:2", "gsm8k:3"]
    assert [column.title.rpartition("= ")[2] for column in table.columns] == ["2", "3", "2"]
