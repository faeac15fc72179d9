"""How much memory the KV cache may take, and what running out of it looks like."""

from __future__ import annotations

import gc

import torch

from dasd_bench.engine.limits import available_bytes

SHARE = 0.5
"""The share of the free memory that the cache may take."""


def budget_bytes(device: torch.device, asked_gib: float | None) -> int:
    """Bytes for keys and values: what was asked for, else half of what is free on the device."""
    if asked_gib is not None:
        return int(asked_gib * 2**30)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * SHARE)
    return int(available_bytes(device) * SHARE)


def is_out_of_memory(error: BaseException) -> bool:
    """True for the device's and the CPU allocator's ways of saying that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)


def release_memory(device: torch.device) -> None:
    """Gives freed memory back before the next try."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
