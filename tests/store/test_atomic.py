"""Leftovers of a killed write go, everything else stays."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dasd_bench.errors import StoreError
from dasd_bench.store.atomic import apply_umask, make_scratch, remove_leftovers, write_text


def test_only_temporary_files_are_removed(tmp_path: Path) -> None:
    kept = [".lock", ".hidden.settings", ".a.json.UPPERCAS", "arms/sft/targets.jsonl", "arms/.gitignore", ".x.jsonl"]
    for name in kept:
        write_text(tmp_path / name, "kept")
    for folder in (tmp_path, tmp_path / "arms"):
        _, path = tempfile.mkstemp(dir=folder, prefix=".targets.jsonl.")
        assert Path(path).exists()
    remove_leftovers(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == set(kept)


@pytest.fixture(params=[0o022, 0o077, 0o002, 0o027])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_new_files_have_the_permissions_of_the_umask(tmp_path: Path, umask: int) -> None:
    write_text(tmp_path / "new" / "x.json", "x")
    scratch = make_scratch(tmp_path, ".x.")
    (scratch / "private").write_text("")
    (scratch / "private").chmod(0o600)
    apply_umask(scratch)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes["x.json"] == modes["private"] == 0o666 & ~umask
    assert modes["new"] == modes[scratch.name] == 0o777 & ~umask


def test_a_link_is_replaced_and_a_folder_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("not ours")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    for name in ("link", "dangling"):
        write_text(tmp_path / name, "ours")
        assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "other").read_text() == "not ours"
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(StoreError, match=r"Cannot write .*folder: Is a directory"):
        write_text(tmp_path / "folder", "ours")
    assert {path.name for path in tmp_path.iterdir()} == {"other", "link", "dangling", "folder"}
