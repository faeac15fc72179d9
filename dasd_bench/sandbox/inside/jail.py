"""What is in force around the programs of a zygote; the :mod:`levels <dasd_bench.sandbox.inside.levels>` make it."""

from __future__ import annotations

import glob
import os
import stat
import sys
import sysconfig

from . import kernel, seccomp

INNER_UID = 1000
#: Where the packages a program may import lie in a file system of our own.
PACKAGES = "/packages"
#: Elsewhere: a folder of links to them, beside the working folder.
WORK, LINKS = "work", "packages"


class Jail:
    """What is in force around the programs of one zygote. (No dataclass: its imports would weigh on every fork.)

    ``own_processes``: the zygote is process 1 of a pid namespace, so ``kill(-1)`` reaches its programs and nobody else.
    ``uid``: user id that a program takes, None where it keeps the zygote's. ``counts_processes``: whether the process
    limit binds. ``proc``: a descriptor of the inner /proc, kept for measuring, -1 if there is none. ``landlocked``:
    whether programs take on Landlock's rules. ``package_folder``: where the packages are that a program may import.
    ``bounded``: whether the working folder cannot outgrow ``file_bytes``, nor change unseen by its own times.
    """

    bounded = False

    def __init__(self, workdir: str, file_bytes: int) -> None:
        self.workdir = workdir
        self.file_bytes = file_bytes
        self.own_processes = False
        self.uid: int | None = None
        self.counts_processes = False
        self.proc = -1
        self.seccomp = False
        self.landlocked = False
        self.package_folder = links_beside(workdir)
        self.readable = readable_paths()
        self.packages: list[str] = []

    @property
    def filters_once(self) -> bool:
        """Whether one system-call filter serves the zygote and all its programs: where the processes that a program
        starts are boxed in and counted. Elsewhere each program's process installs its own, which forbids them."""
        return self.own_processes and self.counts_processes

    def filter(self) -> kernel.Filter | None:
        """The system-call filter for the calling process, None where there is none."""
        if not self.seccomp:
            return None
        own = None if self.filters_once else os.getpid()
        return kernel.Filter(seccomp.program(own_pid=own, forks=self.filters_once))

    def fresh_workdir(self) -> None:
        """Replaces the working folder's content by nothing."""
        empty_folder(self.workdir)


def empty_folder(folder: str) -> None:
    """Deletes all that a folder holds, however deep it is nested: folders are moved up to the top one after the other,
    so that no path grows and nothing is open or called per level. Rights that a program took away are given back. Right
    only where nobody else changes the folder. Raises OSError."""
    os.chmod(folder, stat.S_IRWXU)
    mark, moved = os.urandom(8).hex(), 0  # names that a program cannot have taken
    while entries := list(os.scandir(folder)):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, stat.S_IRWXU)
            for inner in list(os.scandir(entry.path)):
                if inner.is_dir(follow_symlinks=False):
                    os.chmod(inner.path, stat.S_IRWXU)
                    os.rename(inner.path, os.path.join(folder, f"{mark}{moved}"))
                    moved += 1
                else:
                    os.unlink(inner.path)
            os.rmdir(entry.path)


def folder_bytes(folder: str, most: int) -> int:
    """Bytes on disk of all that a folder holds, at any depth; counts no further once they are over ``most``. A program
    may be at work in it: what vanishes meanwhile is left out, and what cannot be looked into counts as too much."""
    total, waiting = 0, [folder]
    while waiting and total <= most:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    total += 4096 + found.st_blocks * 512
                    if stat.S_ISDIR(found.st_mode):
                        waiting.append(entry.path)
                    if total > most:
                        break
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return most + 1
    return total


def links_beside(workdir: str) -> str:
    """The folder of links to packages that goes with a working folder."""
    return os.path.join(os.path.dirname(workdir), LINKS)


def readable_paths() -> list[str]:
    """Folders a program needs to run Python: the standard library, shared libraries, time zones."""
    paths = [
        sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), os.path.join(sys.base_prefix, "lib"),
        "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache",
        "/usr/share/zoneinfo",
    ]  # fmt: skip
    return list(dict.fromkeys(path for path in paths if os.path.exists(path)))


def installed_packages(readable: list[str]) -> list[str]:
    """Folders of installed packages inside what is readable: they may hold a benchmark's solutions, so they go."""
    patterns = ("site-packages", "dist-packages", "python3*/site-packages", "python3*/dist-packages")
    found = [match for path in readable for pattern in patterns for match in glob.glob(f"{path}/{pattern}")]
    return [path for path in dict.fromkeys(map(os.path.realpath, found)) if os.path.isdir(path)]


def without_packages(readable: list[str]) -> list[str]:
    """The same folders less those of installed packages: a folder that holds one is replaced by what else it holds."""
    hidden = installed_packages(readable)
    found: list[str] = []
    waiting = [os.path.realpath(path) for path in readable]
    while waiting:
        path = waiting.pop()
        if path in hidden:
            continue
        if any(other.startswith(path + "/") for other in hidden):
            waiting += [os.path.realpath(entry.path) for entry in os.scandir(path)]
        else:
            found.append(path)
    return list(dict.fromkeys(found))
