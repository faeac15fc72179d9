"""How much memory the key-value store may take, and what running out of it looks like."""

from __future__ import annotations

import ctypes
import gc
import platform

import psutil
import torch

SHARE = 0.5
"""The share of the free memory that the store may take."""


def budget_bytes(device: torch.device, asked_gib: float | None) -> int:
    """Bytes for keys and values: what was asked for, else half of what is free on the device."""
    if asked_gib is not None:
        return int(asked_gib * 2**30)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * SHARE)
    return int(psutil.virtual_memory().available * SHARE)


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


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT, _MOST_KEPT = 32 << 20, 1 << 30


def keep_freed_memory() -> None:
    """Has this process keep memory that it frees, up to 1 GiB, for its next temporaries.

    glibc gives blocks of more than some megabytes back to the kernel at once, and the next one of that size is fresh
    pages again: on a virtual machine touching those can take longer than the arithmetic done in them. Other C libraries
    are left alone.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_TRIM_THRESHOLD, _MOST_KEPT)
