"""A built wheel works away from the checkout: its plugin folders are inside."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel; skips where the build backend cannot be fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
    )
    if built.returncode and ("hatchling" in built.stderr and "No matching distribution" in built.stderr):
        pytest.skip("the build backend cannot be fetched from the package index")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def run(installed: Path, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    environment.pop("DASD_DATA_DIR", None)
    return subprocess.run(
        [sys.executable, "-m", "dasd_bench", *args], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_plugins_are_found_inside_the_wheel(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, tmp_path, "list", "methods")
    assert listed.returncode == 0, listed.stderr
    assert "dasd" in listed.stdout
    assert "mini_gsm" in run(installed, tmp_path, "list", "tasks").stdout
    assert not (installed / "methods").exists()
    assert (installed / "dasd_bench" / "plugins" / "tasks" / "mini_gsm" / "mini_gsm.yaml").is_file()


def test_a_new_method_runs_from_the_wheel(installed: Path, tmp_path: Path, tiny_folder) -> None:
    assert run(installed, tmp_path, "new-method", "my-idea").returncode == 0
    done = run(
        installed,
        tmp_path,
        "run",
        "--method=my-idea",
        "--plugins=my_methods",
        f"--model={tiny_folder('llama')}",
        "--tasks=mini_gsm",
        "--train-limit=4",
        "--limit=4",
        f"--store={tmp_path / 'store'}",
        "--set=training.epochs=1",
    )
    assert done.returncode == 0, done.stderr
    assert "my-idea" in done.stdout
    assert list((tmp_path / "runs").glob("llama-my-idea-*/results.json"))


def test_help_is_light() -> None:
    code = "import sys; from dasd_bench.cli.main import run_cli; run_cli(['--help']); run_cli(['list', 'methods']); "
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'lm_eval')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0
