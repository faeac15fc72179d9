"""Namespaces with a file system of their own, in which next to nothing exists."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from .. import kernel
from ..jail import INNER_UID, PACKAGES, Jail, installed_packages
from .base import Level, need_linux

if TYPE_CHECKING:
    from ...places import Place

#: User ids that no account has: each zygote's programs run under one of their own, so process limits count per zygote.
_FIRST_OUTER_UID = 1_900_000_000
_DEVICES = ("null", "zero", "full", "random", "urandom")
_OCTAL = re.compile(r"\\([0-7]{3})")


class NamespacesJail(Jail):
    """Its working folder is a file system of bounded size."""

    bounded = True

    def fresh_workdir(self) -> None:
        kernel.umount(self.workdir)
        _mount_workdir(self)


class Namespaces(Level):
    """User, pid, network, mount, IPC and UTS namespaces."""

    description = "user+pid+net+mount+ipc+uts namespaces, seccomp, rlimits"

    def place(self, limits: Any, packages: list[str], engine: str) -> Place:
        """All folders are made inside."""
        from ...places import Place

        return Place()

    def enter(self, workdir: str, file_bytes: int, packages: list[str]) -> Jail:
        """Returns in a child that is process 1 of its pid namespace; the caller's own process stays behind to wait for
        it."""
        need_linux("namespaces")
        jail = NamespacesJail(workdir, file_bytes)
        jail.seccomp = True
        jail.package_folder = PACKAGES
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
        return jail


LEVEL = Namespaces()


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
    _mount_workdir(jail)
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


def _mount_workdir(jail: Jail) -> None:
    """An empty working folder of bounded size, owned by the programs' user."""
    inodes = 2000
    data = f"size={jail.file_bytes},nr_inodes={inodes},mode=0700,uid={INNER_UID},gid={INNER_UID}"
    kernel.mount("work", jail.workdir, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, data)
