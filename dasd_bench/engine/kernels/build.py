"""Building the compiled kernels: once per machine where a C++ compiler is, never needed.

Each source beside this file becomes a plain shared library called through :mod:`ctypes`, so that no Python headers are
needed, and it is linked to the OpenMP runtime torch has already loaded: a second one would fight for the cores.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fno-finite-math-only", "-std=c++17", "-shared", "-fPIC", "-fopenmp")
SECONDS = 120
FOR_ONE_WIDTH = {"decode", "tree"}
"""Kernels that are compiled for one head width."""
LANES = 16
"""Head widths are multiples of this many numbers."""


def load(name: str, device: torch.device, dtype: torch.dtype, head_dim: int = LANES) -> ctypes.CDLL | None:
    """The library made of ``name``.cpp for heads of that width; None where it does not fit or cannot be built."""
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16) or platform.system() != "Linux":
        return None
    if head_dim % LANES:
        return None
    try:
        return ctypes.CDLL(str(_library(HERE / f"{name}.cpp", head_dim)))
    except (OSError, subprocess.SubprocessError):
        return None


def build_ahead(device: torch.device, head_dim: int) -> None:
    """Starts compiling what is not there yet, in the background; an engine that is made meanwhile waits for it."""
    for source in sorted(HERE.glob("*.cpp")):
        width = head_dim if source.stem in FOR_ONE_WIDTH else LANES
        threading.Thread(target=load, args=(source.stem, device, torch.float32, width), daemon=True).start()


def threads(work: int, least: int) -> int:
    """Threads for a kernel: one below ``least`` units of work.

    Threads that wait for each other cost more than they save on little work, most of all on a busy machine.
    """
    return torch.get_num_threads() if work >= least else 1


def _runtime() -> Path:
    """torch's own OpenMP runtime."""
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    if not found:
        raise FileNotFoundError("torch ships no GNU OpenMP runtime")
    return found[0]


def _cache_dir() -> Path:
    """``DASD_CACHE_DIR``, else ``dasd-bench`` in the XDG cache folder; without a home folder a temporary one.

    Raises OSError where the temporary one is another user's or open to others.
    """
    try:
        named = os.environ.get("DASD_CACHE_DIR")
        if named:
            return Path(named).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dasd-bench"
    except RuntimeError:
        folder = Path(tempfile.gettempdir()) / f"dasd-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # What lies there is loaded into this process.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(f"{folder} is another user's")
    return folder


def _library(source: Path, head_dim: int) -> Path:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise FileNotFoundError("no C++ compiler")
    runtime = _runtime()
    flags = (*FLAGS, f"-DDIM={head_dim}")
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=SECONDS).stdout
    texts = [path.read_bytes() for path in (source, *sorted(HERE.glob("*.h")))]
    key = hashlib.sha256(b"\0".join([*texts, version, _processor(), str(runtime).encode(), repr(flags).encode()]))
    target = _cache_dir() / "kernels" / f"{source.stem}-{key.hexdigest()[:16]}.so"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target.with_suffix(".lock")), tempfile.TemporaryDirectory(dir=target.parent) as folder:
        if target.is_file():  # another process, or a thread of this one, was faster
            return target
        made = Path(folder) / "kernel.so"
        # -fopenmp would also link the system's runtime; the symbols of torch's are already in the process.
        command: list[Any] = [compiler, *flags, source, "-o", made, "-nostdlib", "-lc", "-lm", "-lstdc++", "-lgcc_s"]
        subprocess.run([*command, runtime], capture_output=True, check=True, timeout=SECONDS)
        made.replace(target)
    return target


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One thread of one process at a time; a process that ends lets go of it."""
    with open(lock, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _processor() -> bytes:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor().encode()
    return "\n".join(line for line in lines if line.startswith(("model name", "flags")))[:8192].encode()
