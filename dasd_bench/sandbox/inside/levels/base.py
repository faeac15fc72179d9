"""What every isolation level has."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from .. import kernel
from ..jail import Jail

if TYPE_CHECKING:
    from ...places import Place


class Level(ABC):
    """An isolation level. (No dataclass: its imports would weigh on every fork.)

    ``description``: what it is made of. ``is_sandbox``: whether files, network and other processes are out of a
    program's reach. ``by_default``: whether it is tried where no level is asked for by name. ``engines``: the ways to
    build it, of which one may be asked for.
    """

    description = ""
    is_sandbox = True
    by_default = True
    engines: tuple[str, ...] = ()

    def place(self, limits: Any, packages: list[str], engine: str) -> Place:
        """Outside, before the zygote is started: where it will run, here in a folder of its own. ``limits``: a
        :class:`dasd_bench.sandbox.Limits`. Raises OSError, or :class:`dasd_bench.sandbox.container.Absent`."""
        from ...places import FolderPlace  # not there for a zygote in a container, which makes no places

        return FolderPlace(packages)

    @abstractmethod
    def enter(self, workdir: str, file_bytes: int, packages: list[str]) -> Jail:
        """Inside: puts the calling process, which must be small and single-threaded, into the level. Raises OSError
        where the kernel or its administrator refuses it."""


def need_linux(name: str) -> None:
    """Raises OSError where the kernel's own means are not known."""
    if sys.platform != "linux" or not kernel.supported():
        raise OSError(f"{name} isolation needs Linux on x86_64 or aarch64")
