"""Resource limits. Not a sandbox, and never called one."""

from __future__ import annotations

import sys

from .. import kernel
from ..jail import Jail
from .base import Level


class Rlimits(Level):
    """What is left where the system has nothing better."""

    description = "rlimits only: not a sandbox"
    is_sandbox = False

    def enter(self, workdir: str, file_bytes: int, packages: list[str]) -> Jail:
        """On Linux, a system-call filter comes with it: no part of the level's promise, but free."""
        jail = Jail(workdir, file_bytes)
        if sys.platform == "linux":
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
            jail.seccomp = kernel.supported()
        return jail


LEVEL = Rlimits()
