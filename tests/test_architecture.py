"""The contracts of pyproject.toml on who may import whom hold; docs/architecture.md and tests/ have every room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_arrows_point_one_way() -> None:
    lint = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    done = subprocess.run(lint, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_room_is_on_the_map() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "dasd_bench"
    rooms = {path.parent.name + "/" for path in package.glob("*/__init__.py")}
    modules = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    missing = {name for name in rooms | modules if f"  {name}" not in text}
    assert not missing, missing


def test_every_room_has_its_folder_of_tests() -> None:
    rooms, folders = (
        {path.parent.name for path in (ROOT / top).glob("*/__init__.py")} for top in ("dasd_bench", "tests")
    )
    assert folders == rooms | {"casebook"}  # odd inputs, by kind of fault and not by room
