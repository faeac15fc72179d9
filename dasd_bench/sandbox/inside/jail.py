"""Builds the isolation around a zygote: namespaces with a file system of their own, or less where that is refused.

``enter`` raises OSError where the kernel or its
administrator refuses a level; the caller then tries the next one.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
import sysconfig

from . import kernel, seccomp

#: From strongest to weakest; ``contained`` is what is left to do within a container that was built outside.
CONTAINED, NAMESPACES, LANDLOCK, RLIMITS = "contained", "namespaces", "landlock", "rlimits"
INNER_UID = 1000
#: Where the packages a program may import lie in a file system of our own.
PACKAGES = "/packages"
#: Elsewhere: a folder of links to them, beside the working folder.
WORK, LINKS = "work", "packages"
#: User ids that no account has: each zygote's programs run under one of their own, so process limits count per zygote.
_FIRST_OUTER_UID = 1_900_000_000
_DEVICES = ("null", "zero", "full", "random", "urandom")
_OCTAL = re.compile(r"\\([0-7]{3})")


class Jail:
    """What is in force around the programs of one zygote. (No dataclass: its imports would weigh on every fork.)

    ``own_processes``: the zygote is process 1 of a pid namespace, so ``kill(-1)`` reaches its programs and nobody else.
    ``uid``: user id that a program takes, None where it keeps the zygote's. ``counts_processes``: whether the process
    limit binds. ``proc``: a descriptor of the inner /proc, kept for measuring, -1 if there is none.
    """

    def __init__(self, level: str, workdir: str, file_bytes: int) -> None:
        self.level = level
        self.workdir = workdir
        self.file_bytes = file_bytes
        self.own_processes = False
        self.uid: int | None = None
        self.counts_processes = False
        self.proc = -1
        self.seccomp = False
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
        if self.level == NAMESPACES:
            kernel.umount(self.workdir)
            mount_workdir(self)
        else:
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


def enter(level: str, *, workdir: str, file_bytes: int, packages: list[str]) -> Jail:
    """Puts the calling process, which must be small and single-threaded, into ``level``. At ``namespaces`` the call
    returns in a child that is process 1 of its pid namespace; the caller's own process stays behind to wait for it.
    """
    jail = Jail(level, workdir, file_bytes)
    if level == RLIMITS:
        return _rlimits(jail)
    if sys.platform != "linux" or not kernel.supported():
        raise OSError(f"{level} isolation needs Linux on x86_64 or aarch64")
    jail.seccomp = True
    if level == CONTAINED:
        jail.own_processes = os.getpid() == 1
        jail.packages = [PACKAGES]
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        return jail
    if level == LANDLOCK:
        if kernel.landlock_abi() == 0:
            raise OSError("this kernel has no Landlock")
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        jail.packages = [*packages, links_beside(workdir)]
        return jail
    _namespaces(jail, packages)
    return jail


def _rlimits(jail: Jail) -> Jail:
    if sys.platform == "linux":
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        # Not part of the level's promise, but free where the kernel has it.
        jail.seccomp = kernel.supported()
    return jail


def _namespaces(jail: Jail, packages: list[str]) -> None:
    outer_uid, outer_gid = os.getuid(), os.getgid()
    own_pid = os.getpid()
    if outer_uid == 0:
        os.setgroups([])
        program_uid = _FIRST_OUTER_UID + own_pid
        maps = f"0 {outer_uid} 1\n{INNER_UID} {program_uid} 1\n", f"0 {outer_gid} 1\n{INNER_UID} {program_uid} 1\n"
    else:
        maps = f"{INNER_UID} {outer_uid} 1\n", f"{INNER_UID} {outer_gid} 1\n"
    flags = (
        kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET
        | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
    )  # fmt: skip
    _unshare_and_map(flags, own_pid, maps)
    child = os.fork()
    if child:
        _keep(child)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
    jail.own_processes = True
    jail.uid = INNER_UID if outer_uid == 0 else None
    jail.counts_processes = True
    _file_system(jail, packages)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


def _unshare_and_map(flags: int, pid: int, maps: tuple[str, str]) -> None:
    """Enters the namespaces. Maps of more than one's own id must be written from outside: by a helper process."""
    several = "\n" in maps[0].strip()
    if not several:
        kernel.unshare(flags)
        _write(f"/proc/{pid}/setgroups", "deny")
        _write(f"/proc/{pid}/gid_map", maps[1])
        _write(f"/proc/{pid}/uid_map", maps[0])
        return
    ready_r, ready_w = os.pipe()
    helper = os.fork()
    if helper == 0:
        status = 1
        try:
            os.close(ready_w)
            if os.read(ready_r, 1):
                _write(f"/proc/{pid}/gid_map", maps[1])
                _write(f"/proc/{pid}/uid_map", maps[0])
                status = 0
        finally:
            os._exit(status)
    os.close(ready_r)
    try:
        kernel.unshare(flags)
        os.write(ready_w, b"1")
    finally:
        os.close(ready_w)
        _, status = os.waitpid(helper, 0)
    if status:
        raise OSError("the kernel refused the user-id map of a new user namespace")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _keep(child: int) -> None:
    """The process left outside: holds nothing, waits, and passes on how the inside ended."""
    os.closerange(3, 1024)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _file_system(jail: Jail, packages: list[str]) -> None:
    """A root of our own: read-only system libraries, five devices, one small writable folder; nothing else exists."""
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    # Mounted over /tmp only until pivot_root makes it the root; the old /tmp is then back, below /old.
    kernel.mount("root", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,nr_inodes=4096,mode=0755")
    os.mkdir("/tmp/old")
    kernel.pivot_root("/tmp", "/tmp/old")
    os.chdir("/")
    os.mkdir("/proc")
    try:
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        jail.proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        kernel.umount("/proc")
    except OSError:
        jail.proc = -1
    os.rmdir("/proc")
    _bind_readable(jail)
    os.mkdir("/dev")
    for name in _DEVICES:
        _bind(f"/dev/{name}")
    os.symlink(jail.workdir, "/dev/shm")
    os.makedirs(jail.workdir, exist_ok=True)
    empty = "/empty"
    os.mkdir(empty)
    for path in installed_packages(jail.readable):
        kernel.mount(empty, path, None, kernel.MS_BIND)
    for path in packages:
        _bind(path, os.path.join(PACKAGES, os.path.basename(path)))
    kernel.umount("/old")
    os.rmdir("/old")
    _make_readonly(jail)
    mount_workdir(jail)
    os.chdir(jail.workdir)


def _make_readonly(jail: Jail) -> None:
    """Makes every mount read-only. Raises OSError."""
    try:
        kernel.make_readonly("/")
    except OSError:  # before Linux 5.12: one by one, as the kernel lists them
        if jail.proc < 0:
            raise
        descriptor = os.open("self/mountinfo", os.O_RDONLY, dir_fd=jail.proc)
        with open(descriptor, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
        for line in lines:
            place, options = line.split()[4:6]
            kernel.remount_readonly(_OCTAL.sub(lambda match: chr(int(match[1], 8)), place), options.split(","))


def _bind_readable(jail: Jail) -> None:
    for path in jail.readable:
        if any(path != other and path.startswith(other + "/") for other in jail.readable):
            continue
        if os.path.islink("/old" + path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if not os.path.lexists(path):
                os.symlink(os.readlink("/old" + path), path)
            continue
        _bind(path)


def _bind(path: str, at: str = "") -> None:
    source, at = "/old" + path, at or path
    if os.path.isdir(source):
        os.makedirs(at, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(at), exist_ok=True)
        os.close(os.open(at, os.O_CREAT | os.O_WRONLY, 0o644))
    kernel.mount(source, at, None, kernel.MS_BIND | kernel.MS_REC)


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


def mount_workdir(jail: Jail) -> None:
    """An empty working folder of bounded size, owned by the programs' user."""
    inodes = 2000
    data = f"size={jail.file_bytes},nr_inodes={inodes},mode=0700,uid={INNER_UID},gid={INNER_UID}"
    kernel.mount("work", jail.workdir, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, data)
