"""Folders of sweeps, probes and ablations: refused where they are another's, reported where they are removed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dasd_bench.errors import StoreError, UsageError
from dasd_bench.run.claim import Claim


def claim(folder: Path, text: str = "model: a\n") -> Claim:
    return Claim(folder, "sweep.yaml", text, "a sweep")


@pytest.mark.parametrize("before", ["nothing", "an empty folder", "the same sweep", "only hidden files"])
def test_a_folder_of_its_own_is_taken(tmp_path: Path, before: str) -> None:
    folder = tmp_path / "sweep"
    if before != "nothing":
        folder.mkdir()
    if before == "the same sweep":
        (folder / "sweep.yaml").write_text("model: a\n")
        (folder / "sweep.json").write_text("{")
    if before == "only hidden files":
        (folder / ".DS_Store").touch()
    claim(folder).take()
    claim(folder).still_held([])
    assert (folder / "sweep.yaml").read_text() == "model: a\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("sweep.yaml", b"model: b\n", "contains a sweep with other settings"),
        ("sweep.yaml", b"", "or a damaged sweep.yaml"),
        ("sweep.yaml", b"\xff\xfe\x00", "or a damaged sweep.yaml"),
        ("sweep.json", b"{}", "contains no sweep"),
        ("thesis.tex", b"x", "is not empty"),
    ],
)
def test_the_work_of_others_is_left_alone(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=said):
        claim(tmp_path).take()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: content}


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "sweep").write_text("x")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        claim(tmp_path / "sweep").take()


def test_a_removal_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    mine = claim(folder)
    mine.take()
    point = folder / "points" / "lr=1"
    point.mkdir(parents=True)
    mine.still_held([point])
    shutil.rmtree(folder / "points")
    with pytest.raises(StoreError, match="in whole or in part, during a sweep; finished work is in the store"):
        mine.still_held([point])
    shutil.rmtree(folder)
    with pytest.raises(StoreError, match="was removed"):
        mine.still_held()
    claim(folder, "model: b\n").take()
    with pytest.raises(StoreError, match="was removed"):
        mine.still_held()
