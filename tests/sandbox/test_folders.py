"""Working folders: whatever a program leaves is measured and goes, at any depth."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import pytest

from dasd_bench.sandbox import Limits, Outcome, Problem, Sample, Sandbox
from dasd_bench.sandbox.errors import SettingError
from dasd_bench.sandbox.inside.jail import empty_folder, folder_bytes
from dasd_bench.sandbox.launch import WorkerProcess
from dasd_bench.sandbox.model import IsolationLevel

from .hostile import PROBLEM, RIGHT

DEEP = "import os\nfor _ in range({levels}): os.mkdir('a'); os.chdir('a')\n"


def nest(folder: Path, levels: int) -> None:
    home = os.getcwd()
    os.chdir(folder)
    try:
        exec(DEEP.format(levels=levels), {})
    finally:
        os.chdir(home)


@pytest.mark.parametrize("levels", [1, 60, 3000])
def test_a_folder_is_emptied_at_any_depth(levels: int, tmp_path: Path) -> None:
    nest(tmp_path, levels)
    assert folder_bytes(str(tmp_path), 4096 * levels - 1) >= 4096 * levels
    empty_folder(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_folders_of_every_shape_are_emptied_and_nothing_beside_them(tmp_path: Path) -> None:
    rng = random.Random(5)
    for run in range(20):
        top, beside = tmp_path / f"t{run}", tmp_path / f"b{run}"
        top.mkdir()
        beside.mkdir()
        (beside / "kept").write_text("kept")
        folders = [top]
        for number in range(rng.randrange(40)):
            at = rng.choice(folders)
            kind = rng.randrange(4)
            if kind < 2:
                folders.append(at / f"{number}")
                folders[-1].mkdir()
            elif kind == 2:
                (at / f"{number}").write_bytes(bytes(rng.randrange(5000)))
            else:
                (at / f"{number}").symlink_to(rng.choice([beside, beside / "kept", top, Path("/nowhere")]))
        for folder in reversed(folders):
            folder.chmod(rng.choice([0, 0o300, 0o500, 0o700]))
        empty_folder(str(top))
        assert os.listdir(top) == []
        assert (beside / "kept").read_text() == "kept"


def test_bytes_are_counted_at_any_depth_and_no_further_than_asked(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for number in range(50):
        (tmp_path / "a" / "b" / f"{number}").write_bytes(bytes(10_000))
    total = folder_bytes(str(tmp_path), 1 << 40)
    assert total >= 500_000
    assert 100_000 < folder_bytes(str(tmp_path), 100_000) < total


@pytest.mark.parametrize("name", ["x" * 200, "a"])
def test_a_folder_too_deep_to_look_into_counts_as_too_much(name: str, tmp_path: Path) -> None:
    nested = DEEP.replace("'a'", repr(name)).format(levels=40)
    home = os.getcwd()
    os.chdir(tmp_path)
    try:
        exec(nested, {})
    finally:
        os.chdir(home)
    assert (folder_bytes(str(tmp_path), 1 << 40) > 1 << 40) == (len(name) == 200)
    empty_folder(str(tmp_path))


@pytest.mark.parametrize("level", ["namespaces", "landlock", "rlimits"])
@pytest.mark.parametrize("levels", [70, 900, 1500])
def test_what_a_program_nested_deep_is_gone_for_the_next(level: str, levels: int) -> None:
    look = "import os\ndef solve(x): return 3 * x + 1 if not os.listdir('.') else 0\n"
    leave = DEEP.format(levels=levels) + RIGHT
    limits = Limits(file_bytes=64 << 20)
    with contextlib.ExitStack() as stack:
        try:
            sandbox = stack.enter_context(Sandbox(1, limits, "rlimits", allow_unsafe=True, isolation=level))
        except SettingError as error:
            pytest.skip(str(error))
        worker = sandbox._slots[0].worker
        results = sandbox.run([Sample("p", code) for code in (leave, look, look)], [PROBLEM])
        assert [r.passed for r in results] == [True] * 3, results
        assert sandbox._slots[0].worker is worker


@pytest.mark.parametrize("level", ["landlock", "rlimits"])
def test_files_in_a_nested_folder_count_against_the_limit(level: str) -> None:
    fill = (
        "import os, time\nos.makedirs('a/b')\n"
        "for i in range(40):\n    with open(f'a/b/{i}', 'wb') as f: f.write(bytes(1 << 20))\ntime.sleep(30)\n"
    )
    limits = Limits(cpu_seconds=2, wall_seconds=10, file_bytes=4 << 20)
    with Sandbox(1, limits, isolation=level, required_level="rlimits", allow_unsafe=True) as sandbox:
        (result,) = sandbox.run(
            [Sample("p", fill)], [Problem("p", "mbpp", entry_point="f", tests=("assert f() == 1",))]
        )
    assert (result.outcome, "bytes of files" in result.detail) == (Outcome.OUTPUT_LIMIT, True), result


def test_a_sandbox_closes_over_a_folder_nested_too_deep_to_be_removed_by_name() -> None:
    worker = WorkerProcess(IsolationLevel.RLIMITS, Limits(), [])
    worker.wait()
    workdir = Path(worker._place.workdir)
    nest(workdir, 1500)
    worker.close()
    assert not os.path.exists(workdir.parent)
