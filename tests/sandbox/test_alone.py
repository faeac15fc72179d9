"""The sandbox needs nothing of the rest of the package."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import dasd_bench.sandbox

FOLDER = Path(dasd_bench.sandbox.__file__).parent


def test_it_imports_nothing_of_the_rest() -> None:
    program = (
        "import sys, types\n"
        # The package's own __init__ is no part of the sandbox.
        f"top = types.ModuleType('dasd_bench'); top.__path__ = [{str(FOLDER.parent)!r}]\n"
        "sys.modules['dasd_bench'] = top\n"
        "import dasd_bench.sandbox\n"
        "print([n for n in sys.modules if n.startswith('dasd_bench.') and not n.startswith('dasd_bench.sandbox')])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_no_function_of_it_does_either() -> None:
    """Nor do imports that run later."""
    names = {
        node.module or ""
        for path in FOLDER.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level == 0
    }
    assert not [name for name in names if name.split(".")[0] == "dasd_bench"]
