"""The optional compiled kernel of the decoding step: built once per machine where a C++ compiler is, never needed.

Rows have unlike lengths, and torch's attention pads them to the longest; the kernel reads each row's keys once and
nothing else. It is a plain shared library called through :mod:`ctypes`, so that no Python headers are needed, and it
is linked to the OpenMP runtime torch has already loaded: a second one would fight for the cores.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dasd_bench.engine.attention import Scale
from dasd_bench.models.files import user_cache_dir

SOURCE = Path(__file__).with_name("decode_attention.cpp")
HEAD_DIMS = frozenset({16, 32, 64, 80, 96, 128, 256})
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fno-finite-math-only", "-std=c++17", "-shared", "-fPIC", "-fopenmp")
SECONDS = 120
ONE_THREAD = 1 << 18
"""Below this many products of query and key elements a step runs on one thread."""


class DecodeKernel:
    """The loaded library."""

    def __init__(self, library: Path) -> None:
        self._call = ctypes.CDLL(str(library)).dasd_decode_attention
        pointer, whole, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
        self._call.argtypes = [
            whole, whole, pointer, pointer, pointer, pointer, pointer, whole, pointer, pointer, whole, whole, whole,
            whole, whole, real, real, pointer, pointer, whole,
        ]  # fmt: skip
        self._call.restype = ctypes.c_int

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Tensor,
        how: Scale,
        shared: Tensor,
        width: int = 1,
    ) -> tuple[Tensor, Tensor]:
        """Appends ``key`` and ``value`` to the rows and attends.

        ``query`` [B, H, D], ``key`` and ``value`` [B, Hkv, D]; ``keys`` and ``values`` [rows, Hkv, capacity, D],
        contiguous; ``lengths`` int64 [B], tokens held before. ``width`` rows are one item, and the first ``shared[b]``
        (int64 [B]) tokens of a row are read where the item's first row holds them. Gives output [B, H, D], log-sum-exp
        float32 [B, H]. A window counts from the row's own first token.
        """
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        rows, heads, dim = query.shape
        groups = key.shape[1]
        out = torch.empty_like(query)
        lse = torch.empty(rows, heads, dtype=torch.float32)
        # Threads that wait for each other cost more than they save on little work, most of all on a busy machine.
        little = heads * dim * int(lengths.sum()) < ONE_THREAD
        self._call(
            int(query.dtype == torch.bfloat16), dim, query.data_ptr(), key.data_ptr(), value.data_ptr(),
            keys.data_ptr(), values.data_ptr(), keys.shape[2], lengths.data_ptr(), shared.data_ptr(), rows, width,
            groups, heads // groups, how.window or 0, how.scaling, how.softcap or 0.0, out.data_ptr(), lse.data_ptr(),
            1 if little else torch.get_num_threads(),
        )  # fmt: skip
        return out, lse


def load_kernel(device: torch.device, dtype: torch.dtype, head_dim: int) -> DecodeKernel | None:
    """The kernel for this model, or None where it does not fit or cannot be built."""
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16) or head_dim not in HEAD_DIMS:
        return None
    if platform.system() != "Linux":
        return None
    try:
        return DecodeKernel(_library())
    except (OSError, subprocess.SubprocessError, AttributeError):
        return None


def _runtime() -> Path:
    """torch's own OpenMP runtime."""
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    if not found:
        raise FileNotFoundError("torch ships no GNU OpenMP runtime")
    return found[0]


def _library() -> Path:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise FileNotFoundError("no C++ compiler")
    source, runtime = SOURCE.read_bytes(), _runtime()
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=SECONDS).stdout
    key = hashlib.sha256(b"\0".join([source, version, _processor(), str(runtime).encode(), repr(FLAGS).encode()]))
    target = user_cache_dir() / "kernels" / f"decode-{key.hexdigest()[:16]}.so"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / "kernel.so"
        # -fopenmp would also link the system's runtime; the symbols of torch's are already in the process.
        command: list[Any] = [compiler, *FLAGS, SOURCE, "-o", made, "-nostdlib", "-lc", "-lm", "-lstdc++", "-lgcc_s"]
        subprocess.run([*command, runtime], capture_output=True, check=True, timeout=SECONDS)
        made.replace(target)
    return target


def _processor() -> bytes:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor().encode()
    return "\n".join(line for line in lines if line.startswith(("model name", "flags")))[:8192].encode()
