"""How the C library treats memory that this process frees. No torch."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGEST_KEPT, _MOST_KEPT = 32 << 20, 1 << 30


def keep_freed_memory() -> None:
    """Has this process keep memory that it frees, up to 1 GiB, for its next temporaries.

    glibc gives blocks of more than some megabytes back to the kernel at once, and the next one of that size is fresh
    pages again: on a virtual machine touching those can take longer than the arithmetic done in them. All threads share
    one heap: what a forward pass allocates is freed by the thread of the backward pass. Other C libraries are left
    alone.
    """
    if "CS_GNU_LIBC_VERSION" in os.confstr_names:
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_TRIM_THRESHOLD, _MOST_KEPT)
        libc.mallopt(_ARENA_MAX, 1)


def return_free_memory() -> None:
    """Gives freed heap pages back to the system where the C library can (glibc): a model's worth of them."""
    if "CS_GNU_LIBC_VERSION" in os.confstr_names:
        ctypes.CDLL(None).malloc_trim(0)
