from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dasd_bench.sandbox import Limits, Sandbox
from dasd_bench.sandbox.errors import SettingError

Rows = Callable[[str], list[dict[str, Any]]]


LIMITS = Limits(cpu_seconds=1.0, wall_seconds=3.0, memory_gib=0.5, output_bytes=1 << 20, file_bytes=4 << 20)
#: Every way of isolation that is a sandbox.
LEVELS = ("namespaces", "landlock", "container:bubblewrap", "container:docker")


@pytest.fixture(scope="session")
def box() -> Iterator[Sandbox]:
    """A sandbox with short limits, at the best level of this machine."""
    with Sandbox(workers=2, limits=LIMITS, required_level="rlimits", allow_unsafe=True) as sandbox:
        yield sandbox


@pytest.fixture(scope="session", params=LEVELS)
def any_box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox with short limits at each level that is one and works here."""
    with contextlib.ExitStack() as stack:
        try:
            sandbox = stack.enter_context(Sandbox(workers=2, limits=LIMITS, isolation=request.param))
        except SettingError as error:
            pytest.skip(str(error))
        yield sandbox


@pytest.fixture(scope="session")
def rows() -> Rows:
    """Reads ``<set>/<split>`` of the benchmark data; skips where there is none."""

    def read(name: str) -> list[dict[str, Any]]:
        folder = os.environ.get("DASD_DATA_DIR")
        if not folder:
            pytest.skip("DASD_DATA_DIR names no folder with the benchmark data")
        path = Path(folder) / f"{name}.jsonl"
        if not path.exists():
            pytest.skip(f"{path} is not there")
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    return read


@pytest.fixture(scope="session")
def gold_box() -> Iterator[Sandbox]:
    """A sandbox with the default limits."""
    with Sandbox(workers=2, required_level="rlimits", allow_unsafe=True) as sandbox:
        yield sandbox
