"""Standard output that is closed, full, narrow or left by its reader, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = f"{sys.executable} -m dasd_bench"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["bash", "-c", line], capture_output=True, env={**os.environ, **environment}, check=False)


@pytest.mark.parametrize(
    ("redirection", "said"),
    [(">/dev/full", b"No space left on device"), (">&-", b"Bad file descriptor")],
)
def test_output_that_cannot_be_written_is_one_sentence(redirection: str, said: bytes) -> None:
    done = shell(f"{PROGRAM} show sft {redirection}")
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_reader_that_goes_away_ends_a_listing_quietly() -> None:
    done = shell(f"{PROGRAM} list methods | head -1; echo ${{PIPESTATUS[0]}}")
    assert done.stdout.splitlines()[-1] == b"0"
    assert done.stderr == b""


def test_an_ascii_terminal_gets_escapes(tmp_path: Path) -> None:
    folder = tmp_path / "r\u00e9sum\u00e9 \u2192"
    done = shell(f"{PROGRAM} list runs '{folder}'", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"\\u2192" in done.stdout


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "| true"])
def test_a_run_goes_on_without_its_output(redirection: str, tiny_folder, tmp_path: Path) -> None:
    from tests.run.helpers import run_args

    line = " ".join(f"'{word}'" for word in run_args(tiny_folder("llama"), tmp_path, methods="sft"))
    done = shell(f"{PROGRAM} {line} {redirection}; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(b"standard output cannot be written") == 1
    assert (tmp_path / "run" / "results.json").exists()
