"""A container that was built outside, with what is left to do within it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .. import kernel
from ..jail import PACKAGES, Jail
from .base import Level, need_linux

if TYPE_CHECKING:
    from ...places import Place


class Container(Level):
    """Bubblewrap or Docker."""

    description = "container (bubblewrap or Docker), Landlock, seccomp, rlimits"
    by_default = False
    engines = ("bubblewrap", "docker")

    def place(self, limits: Any, packages: list[str], engine: str) -> Place:
        """The container's working folder is a small file system in memory."""
        from ...container import wrapper
        from ...places import Place

        return Place(wrapper(engine, limits.file_bytes, limits.processes, packages))

    def enter(self, workdir: str, file_bytes: int, packages: list[str]) -> Jail:
        """Landlock, where there is any, hides what the engine mounts: /proc, /sys."""
        need_linux("container")
        jail = Jail(workdir, file_bytes)
        jail.seccomp = True
        jail.landlocked = kernel.landlock_abi() > 0
        jail.own_processes = os.getpid() == 1
        jail.packages = [PACKAGES]
        jail.package_folder = PACKAGES
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        return jail


LEVEL = Container()
