"""The rows that a limit takes: shares of levels and subjects, nested samples, and the same whatever is run on them."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import ceil, floor

from hypothesis import given
from hypothesis import strategies as st

from dasd_bench.tasks.sampling import interleave, sample_positions
from dasd_bench.types import Example

GROUPS = st.one_of(st.none(), st.sampled_from(["1", "2", "3"])), st.one_of(st.none(), st.sampled_from("abcd"))
SETS = st.lists(st.tuples(*GROUPS), min_size=1, max_size=60)


def examples(groups: list[tuple[str | None, str | None]]) -> list[Example]:
    return [
        Example(id=f"t/test/{i}", task="t", prompt=f"{i}", reference="", answer="", level=level, subject=subject)
        for i, (level, subject) in enumerate(groups)
    ]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_of_the_first_n_every_stratum_has_its_share_rounded_up_or_down(sizes: list[int]) -> None:
    total, seen = sum(sizes), Counter[int]()
    for n, stratum in enumerate(interleave(sizes), 1):
        seen[stratum] += 1
        for i, size in enumerate(sizes):
            share = Fraction(n * size, total)
            assert floor(share) <= seen[i] <= ceil(share)
    assert [seen[i] for i in range(len(sizes))] == sizes


@given(SETS, st.data())
def test_levels_and_the_subjects_of_a_level_keep_their_shares(
    groups: list[tuple[str | None, str | None]], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(groups)))
    chosen = [groups[i] for i in sample_positions(examples(groups), count)]
    assert len(chosen) == count
    levels, before = Counter(level for level, _ in chosen), Counter(level for level, _ in groups)
    for level, of in before.items():
        assert abs(Fraction(count * of, len(groups)) - levels[level]) < 1
        for subject, both in Counter(s for other, s in groups if other == level).items():
            assert abs(Fraction(levels[level] * both, of) - chosen.count((level, subject))) < 1


@given(SETS)
def test_a_smaller_sample_is_part_of_every_larger_one(groups: list[tuple[str | None, str | None]]) -> None:
    smaller: set[int] = set()
    for count in range(len(groups) + 1):
        positions = sample_positions(examples(groups), count)
        assert positions == sorted(set(positions))
        assert len(positions) == count
        assert smaller <= set(positions)
        smaller = set(positions)


def test_a_sample_of_rows_without_groups_is_no_run_of_neighbours_and_always_the_same() -> None:
    rows = examples([(None, None)] * 1000)
    positions = sample_positions(rows, 10)
    assert positions == sample_positions(rows, 10)
    assert min(positions) < 300
    assert max(positions) > 700
