"""Where a zygote runs: in a container, or with a folder of its own on this machine."""

from __future__ import annotations

import os
import tempfile
import time

from .container import Bubblewrap, Docker
from .inside.jail import LINKS, WORK, empty_folder

_CLEANING_TRIES = 20


class Place:
    """``wrapper``: the container around it, if any. ``workdir``: its working folder, as the zygote will see it."""

    def __init__(self, wrapper: Bubblewrap | Docker | None = None, workdir: str = "/tmp") -> None:
        self.wrapper = wrapper
        self.workdir = workdir

    def clean(self) -> None:
        """Removes what is left, once the zygote has ended."""


class FolderPlace(Place):
    """A working folder on this machine, and beside it a folder of links to the packages that programs may import."""

    def __init__(self, packages: list[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dasd-sandbox-", ignore_cleanup_errors=True)
        base = os.path.realpath(self._folder.name)
        super().__init__(workdir=os.path.join(base, WORK))
        links = os.path.join(base, LINKS)
        os.mkdir(self.workdir, 0o700)
        os.mkdir(links, 0o755)
        for package in packages:
            os.symlink(package, os.path.join(links, os.path.basename(package)))

    def clean(self) -> None:
        # First what a program left, which may be nested too deep for the standard library; a program whose zygote
        # ended under it may still be ending, too.
        for _ in range(_CLEANING_TRIES):
            try:
                empty_folder(self.workdir)
                break
            except OSError:
                time.sleep(0.01)
        self._folder.cleanup()
