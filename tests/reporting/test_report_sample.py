"""A page of a large run shows some of its rows, evenly, and says how many."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.made_run import Size, make_run
from dasd_bench.reporting.plots import Source
from dasd_bench.reporting.report import report_page, sample
from dasd_bench.reporting.report.sample import FEWEST, PAGE_BYTES, shown_rows
from dasd_bench.results.runs import load_run


@given(st.lists(st.integers(1, 20_000), max_size=2000), st.integers(1, 12))
def test_what_is_shown_fits_and_is_spread_from_first_to_last(sizes: list[int], sets: int) -> None:
    rows = shown_rows(sizes, sets)
    assert rows == sorted(set(rows))
    if len(rows) < len(sizes):
        assert len(rows) >= FEWEST
        assert rows[0] == 0
        assert rows[-1] == len(sizes) - 1
        gaps = [after - before for before, after in itertools.pairwise(rows)]
        assert max(gaps) - min(gaps) <= 1
        assert len(rows) == FEWEST or len(rows) <= len(sizes) * PAGE_BYTES / sets / sum(sizes)
    else:
        assert sum(sizes) <= PAGE_BYTES // sets or len(sizes) <= FEWEST


def test_the_page_says_what_it_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "alpha", Size(examples=30, tokens=12, items=30, seeds=(0,), steps=4))
    source = Source(run, load_run(run))
    assert "the page shows" not in report_page([source])
    monkeypatch.setattr(sample, "FEWEST", 4)
    monkeypatch.setattr(sample, "PAGE_BYTES", 9000)
    text = report_page([source])
    assert re.search(r"Targets of alpha, \S+ seed 0: the page shows \d+ of 30", text)
    assert re.search(r"Answers of alpha on \S+: the page shows \d+ of 30", text)
