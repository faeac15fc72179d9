"""A file that may not grow further, under each of the libraries that write for us; and memory that runs out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dasd_bench.cli.main import explained

WRITERS = {
    "write_bytes": "from dasd_bench.store.atomic import write_bytes; write_bytes(folder / 'a', bytes(100_000))",
    "safetensors": "from safetensors.numpy import save_file; import numpy as np\n"
    "    save_file({'a': np.zeros(100_000)}, folder / 'a')",
    "copytree": "import shutil; shutil.copytree(source, folder / 'copy')",
    "torch": "import torch; torch.save({'a': torch.zeros(100_000)}, folder / 'a')",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_is_too_large_is_one_sentence(writer: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "big").write_bytes(bytes(100_000))
    program = f"""
import resource
from pathlib import Path
from dasd_bench.store.atomic import disk_errors
from dasd_bench.errors import StoreError
folder, source = Path({str(tmp_path)!r}), Path({str(tmp_path / "source")!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
  with disk_errors(folder):
    {WRITERS[writer]}
except StoreError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert str(tmp_path) in done.stdout, done.stderr
    assert "run the same command again to resume" in done.stdout
    assert "Traceback" not in done.stderr


def test_memory_that_runs_out_is_said() -> None:
    assert "Out of memory" in str(explained(MemoryError()))
    assert "Out of memory" in str(explained(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")))
    assert explained(RuntimeError("a fault of ours")) is None
