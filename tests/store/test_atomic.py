"""Leftovers of a killed write go, everything else stays."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dasd_bench.store.atomic import remove_leftovers, write_text


def test_only_temporary_files_are_removed(tmp_path: Path) -> None:
    kept = [".lock", ".hidden.settings", ".a.json.UPPERCAS", "arms/sft/targets.jsonl", "arms/.gitignore", ".x.jsonl"]
    for name in kept:
        write_text(tmp_path / name, "kept")
    for folder in (tmp_path, tmp_path / "arms"):
        _, path = tempfile.mkstemp(dir=folder, prefix=".targets.jsonl.")
        assert Path(path).exists()
    remove_leftovers(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == set(kept)
