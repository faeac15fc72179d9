"""Linux system calls that Python does not wrap, through ctypes. Import this on Linux only."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1, 2, 4, 8, 32, 4096, 16384, 1 << 18,
)  # fmt: skip
_MOUNT_OPTIONS = {
    "nodev": MS_NODEV,
    "noexec": MS_NOEXEC,
    "noatime": 1 << 10,
    "nodiratime": 1 << 11,
    "relatime": 1 << 21,
}
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_MACHINE = platform.machine()
#: Numbers of the calls used here, by architecture.
_NUMBERS = {
    "x86_64": {"pivot_root": 155, "capset": 126},
    "aarch64": {"pivot_root": 41, "capset": 91},
}
_MOUNT_SETATTR, _LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 442, 444, 445, 446


def supported() -> bool:
    """Whether the system-call tables here know this machine."""
    return _MACHINE in _NUMBERS


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def bare_fork() -> Callable[[], int]:
    """``fork(2)`` without the interpreter's bookkeeping around it, which costs a third of it in page faults. Right for
    a process with a single thread only: nothing else can hold a lock in the child."""
    fork = ctypes.PyDLL(None, use_errno=True).fork

    def forked() -> int:
        return _check(fork(), "fork")

    return forked


def prctl(option: int, value: int = 0) -> None:
    """``prctl(2)`` with one argument; raises OSError."""
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero), f"prctl {option}")


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    _check(
        _libc.mount(source.encode(), target.encode(), kind.encode() if kind else None, ctypes.c_ulong(flags),
                    data.encode() or None),
        f"mount on {target}",
    )  # fmt: skip


def umount(target: str) -> None:
    """Detaches the mount at ``target`` at once; its content goes with the last user."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    _check(_libc.syscall(_NUMBERS[_MACHINE]["pivot_root"], new.encode(), old.encode()), "pivot_root")


def make_readonly(target: str) -> None:
    """Makes the mounts at and below ``target`` read-only and without set-user-id; devices there stay usable. Raises
    OSError, before Linux 5.12 always."""
    attributes = struct.pack("QQQQ", 1 | 2, 0, 0, 0)
    at_recursive, at_fdcwd = 0x8000, -100
    result = _libc.syscall(
        _MOUNT_SETATTR, at_fdcwd, target.encode(), at_recursive, attributes, ctypes.c_size_t(len(attributes))
    )
    _check(result, "mount_setattr")


def remount_readonly(target: str, options: list[str]) -> None:
    """The same for the one mount at ``target``, whose other ``options`` (as the kernel lists them) are kept: in a user
    namespace those that came from outside cannot be dropped."""
    kept = sum(_MOUNT_OPTIONS.get(option, 0) for option in options)
    mount("none", target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | kept & ~MS_NOSUID)


def drop_capabilities() -> None:
    """Gives up every capability of the calling process."""
    header = struct.pack("Ii", 0x20080522, 0)
    _check(_libc.syscall(_NUMBERS[_MACHINE]["capset"], header, bytes(24)), "capset")


_ZERO, _TWO = ctypes.c_ulong(0), ctypes.c_ulong(2)


class Filter:
    """A seccomp program (BPF, 8 bytes an instruction), laid out once and installed by each child."""

    def __init__(self, program: bytes) -> None:
        self._code = ctypes.create_string_buffer(program, len(program))
        header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(self._code))
        self._header = ctypes.create_string_buffer(header, len(header))

    def install(self) -> None:
        """From here on the filter judges every call of this process and of all it starts."""
        result = _libc.prctl(PR_SET_SECCOMP, _TWO, self._header, _ZERO, _ZERO)
        _check(result, "seccomp")


def landlock_abi() -> int:
    """The kernel's Landlock version, 0 where it has none."""
    version = _libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    return max(0, int(version))


_FS_READ = 1 | 1 << 2 | 1 << 3  # execute, read file, read folder
_FS_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}


def landlock_rules(readable: list[str], writable: list[str]) -> int:
    """A descriptor of the rule that allows reading below ``readable``, reading and writing below ``writable``, and
    nothing else; :func:`landlock` puts a process under it.

    Also forbids TCP (ABI 4) and signals and abstract sockets to processes outside (ABI 6), where the kernel can.
    Missing paths are left out. Raises OSError.
    """
    abi = landlock_abi()
    every = _FS_ALL_BY_ABI.get(abi, (1 << 16) - 1)
    attributes = struct.pack("QQQ", every, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = _check(
        _libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint(0)), "landlock_create_ruleset"
    )
    for paths, rights in ((readable, _FS_READ), (writable, every)):
        for path in paths:
            try:
                where = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            allowed = rights if os.path.isdir(path) else rights & (1 | 1 << 1 | 1 << 2 | 1 << 14)
            rule = struct.pack("=Qi", allowed, where)
            added = _libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, ctypes.c_uint(0))
            os.close(where)
            _check(added, f"landlock_add_rule {path}")
    return ruleset


def landlock(ruleset: int) -> None:
    """From here on the rule is in force for this process and all it starts. Raises OSError."""
    _check(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, ctypes.c_uint(0)), "landlock_restrict_self")
