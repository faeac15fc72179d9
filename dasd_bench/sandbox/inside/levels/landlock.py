"""Landlock: the same files as at the stronger levels may be read, one folder written."""

from __future__ import annotations

from .. import kernel
from ..jail import Jail, links_beside
from .base import Level, need_linux


class Landlock(Level):
    """For machines without user namespaces."""

    description = "Landlock, seccomp, rlimits"

    def enter(self, workdir: str, file_bytes: int, packages: list[str]) -> Jail:
        """The rules themselves are each program's own to take on; see the zygote."""
        need_linux("landlock")
        if kernel.landlock_abi() == 0:
            raise OSError("this kernel has no Landlock")
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        jail = Jail(workdir, file_bytes)
        jail.seccomp = jail.landlocked = True
        jail.packages = [*packages, links_beside(workdir)]
        return jail


LEVEL = Landlock()
