"""``dasd-bench doctor``: what this machine has and what works on it without a network. It changes nothing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import psutil

import dasd_bench
from dasd_bench.cli.shared import console_of, show_table
from dasd_bench.engine.threads import usable_cores
from dasd_bench.models.files import format_bytes, user_cache_dir

if TYPE_CHECKING:
    import torch

MATMUL_SIZE = 1024
MATMUL_SECONDS = 0.25
LOW_MEMORY = 4e9
LOW_DISK = 5e9


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``advice`` is empty where all is well."""

    section: str
    name: str
    value: str
    advice: str = ""


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.option("--model", "model", metavar="NAME", help="Report what this model (alias or folder) needs here instead.")
@click.option("--dtype", default="auto", show_default=True, type=click.Choice(["auto", "fp32", "bf16"]))
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda; with --model.")
@click.pass_context
def doctor(context: click.Context, as_json: bool, model: str | None, dtype: str, device: str) -> None:
    """Report what this machine provides: versions, device, number formats, memory, disk, sandbox, offline readiness.

    With --model: what a model needs on this machine per stage (weights, KV cache, training, disk), whether it fits, and
    what to change where it does not. The model need not be downloaded.
    """
    findings = examine() if model is None else _needs(model, dtype, device)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    console = console_of(context)
    rows = [(finding.section, finding.name, finding.value) for finding in findings]
    show_table(console, ("section", "what", "found"), rows)
    for finding in findings:
        if finding.advice:
            console.result(f"{finding.name}: {finding.advice}")


def examine() -> list[Finding]:
    """All findings, in the order shown."""
    return [*_versions(), *_machine(), *_compute(), *_sandbox(), *_offline()]


def _needs(model: str, dtype: str, device: str) -> list[Finding]:
    from dasd_bench.run.survey import survey

    return [Finding(model, row.stage, row.needs, row.advice) for row in survey(model, dtype, device)]


def _versions() -> list[Finding]:
    from dasd_bench.run.artifacts import PACKAGES

    found = [
        Finding("versions", "dasd-bench", dasd_bench.__version__),
        Finding("versions", "python", f"{platform.python_version()} ({sys.executable})"),
    ]
    for package in PACKAGES:
        try:
            found.append(Finding("versions", package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            found.append(Finding("versions", package, "not installed", f"install it: pip install {package}"))
    return found


def _machine() -> list[Finding]:
    memory = psutil.virtual_memory()
    found = [
        Finding("machine", "system", platform.platform()),
        Finding("machine", "processor", f"{_processor_name()}, {usable_cores()} of {os.cpu_count()} cores usable"),
        Finding(
            "machine",
            "memory",
            f"{format_bytes(memory.available)} available of {format_bytes(memory.total)}",
            "the quick demo needs up to 4 GB; close other programs" if memory.available < LOW_MEMORY else "",
        ),
    ]
    for name, folder in (("disk, cache", user_cache_dir()), ("disk, here", Path.cwd())):
        existing = folder
        while not existing.exists():
            existing = existing.parent
        free = shutil.disk_usage(existing).free
        writable = os.access(existing, os.W_OK)
        advice = f"'{existing}' is not writable; set DASD_CACHE_DIR or change the folder" if not writable else ""
        if not advice and free < LOW_DISK:
            advice = "less than 5 GB free; free some disk space"
        found.append(Finding("machine", name, f"{format_bytes(free)} free at {folder}", advice))
    return found


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def _compute() -> list[Finding]:
    try:
        import torch
    except ImportError as error:
        return [Finding("compute", "torch", f"cannot be imported: {error}", "reinstall torch")]
    from dasd_bench.models.load import cpu_features, fast_bf16, resolve_device

    device = resolve_device()
    cores, threads = usable_cores(), torch.get_num_threads()
    named = sorted(cpu_features() & {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_tile", "bf16"})
    crowded = f"more threads than usable cores: set OMP_NUM_THREADS={cores}" if threads > cores else ""
    found = [
        Finding("compute", "device", torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"),
        Finding("compute", "instructions", ", ".join(named) or "none that speed up this program"),
        Finding("compute", "torch threads", str(threads), crowded),
    ]
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        rate = f"{matmul_rate(dtype, device) / 1e9:,.0f} GFLOP/s on a {MATMUL_SIZE} x {MATMUL_SIZE} matmul"
        own = "" if name == "fp32" or fast_bf16(device) else "no bf16 instructions: use --dtype fp32"
        found.append(Finding("compute", name, rate, own))
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        found.append(Finding("compute", "device memory", f"{format_bytes(free)} free of {format_bytes(total)}"))
    return found


def matmul_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations per second of a square matrix product; a rough figure from a quarter of a second."""
    import torch

    left = torch.ones(MATMUL_SIZE, MATMUL_SIZE, dtype=dtype, device=device)
    right = torch.ones(MATMUL_SIZE, MATMUL_SIZE, dtype=dtype, device=device)

    def product() -> None:
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    product()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < MATMUL_SECONDS:
        product()
        count += 1
    return 2.0 * MATMUL_SIZE**3 * count / (time.perf_counter() - started)


def _sandbox() -> list[Finding]:
    from dasd_bench.sandbox import probe_isolation

    report = probe_isolation()
    working = ", ".join(str(level.value) for level in report.available)
    found = [Finding("sandbox", "isolation", f"{report.level.value} (working: {working})")]
    return [*found, *(Finding("sandbox", f"not {level.value}", why) for level, why in report.refused.items())]


def _offline() -> list[Finding]:
    from dasd_bench.models.resolve import alias_rows

    present = [row["name"] for row in alias_rows() if row["on_disk"]]
    found = [
        Finding(
            "offline",
            "models on disk",
            ", ".join(present) or "none",
            "" if present else "download one in advance: dasd-bench models fetch smollm2-135m",
        ),
        Finding("offline", "built-in tasks", "mini_gsm, mini_math, mini_mbpp, mini_arc need no data"),
    ]
    named = os.environ.get("DASD_DATA_DIR")
    if not named:
        advice = "without network access only the built-in tasks run; see docs/tasks.md for the layout of a data folder"
        return [*found, Finding("offline", "DASD_DATA_DIR", "not set", advice)]
    folder = Path(named).expanduser()
    datasets = sorted(path.name for path in folder.iterdir() if any(path.glob("*.jsonl"))) if folder.is_dir() else []
    advice = "" if datasets else "it contains no <dataset>/<split>.jsonl"
    return [*found, Finding("offline", "DASD_DATA_DIR", f"{folder}: {', '.join(datasets) or 'no datasets'}", advice)]
