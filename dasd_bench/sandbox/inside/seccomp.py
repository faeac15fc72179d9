"""The system calls that a program in the sandbox may make: a list of what is allowed, compiled to BPF.

What is not on the list fails with EPERM (ENOSYS for calls that the C library replaces by an older one), so a library
that merely probes goes on. Not on the list are, above all: sockets, ptrace and process_vm, mounts and namespaces,
bpf, perf, keyrings, io_uring, userfaultfd, System V IPC, and limits or scheduling of other processes.
"""

from __future__ import annotations

import platform
import struct

#: name: (number on x86_64, number on aarch64); -1 where the architecture has no such call.
_ALLOWED = {
    "read": (0, 63), "write": (1, 64), "open": (2, -1), "close": (3, 57), "stat": (4, -1), "fstat": (5, 80),
    "lstat": (6, -1), "poll": (7, -1), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226),
    "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65),
    "writev": (20, 66), "access": (21, -1), "pipe": (22, -1), "select": (23, -1), "sched_yield": (24, 124),
    "mremap": (25, 216), "msync": (26, 227), "mincore": (27, 232), "madvise": (28, 233), "dup": (32, 23),
    "dup2": (33, -1), "pause": (34, -1), "nanosleep": (35, 101), "getitimer": (36, 102), "alarm": (37, -1),
    "setitimer": (38, 103), "getpid": (39, 172), "recvfrom": (45, 207), "shutdown": (48, 210),
    "getsockname": (51, 204), "getpeername": (52, 205), "socketpair": (53, 199),
    "getsockopt": (55, 209), "execve": (59, 221), "exit": (60, 93), "wait4": (61, 260), "uname": (63, 160),
    "fsync": (74, 82), "fdatasync": (75, 83),
    "ftruncate": (77, 46), "getdents": (78, -1), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50),
    "rename": (82, -1), "mkdir": (83, -1), "rmdir": (84, -1), "creat": (85, -1), "link": (86, -1),
    "unlink": (87, -1), "symlink": (88, -1), "readlink": (89, -1),
    "umask": (95, 166), "gettimeofday": (96, 169), "getrlimit": (97, 163), "getrusage": (98, 165),
    "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175),
    "getegid": (108, 177), "setpgid": (109, 154), "getppid": (110, 173), "getpgrp": (111, -1), "setsid": (112, 157),
    "getgroups": (115, 158), "getresuid": (118, 148), "getresgid": (120, 150), "getpgid": (121, 155),
    "getsid": (124, 156), "capget": (125, 90), "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132), "statfs": (137, 43), "fstatfs": (138, 44),
    "getpriority": (140, 141), "sched_getparam": (143, 121), "sched_getscheduler": (145, 120),
    "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126), "arch_prctl": (158, -1),
    "setrlimit": (160, 164), "gettid": (186, 178), "getxattr": (191, 8), "lgetxattr": (192, 9), "fgetxattr": (193, 10),
    "listxattr": (194, 11), "llistxattr": (195, 12), "flistxattr": (196, 13), "time": (201, -1), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "epoll_create": (213, -1), "getdents64": (217, 61),
    "set_tid_address": (218, 96), "restart_syscall": (219, 128), "fadvise64": (221, 223),
    "timer_create": (222, 107), "timer_settime": (223, 110), "timer_gettime": (224, 108),
    "timer_getoverrun": (225, 109), "timer_delete": (226, 111), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "exit_group": (231, 94), "epoll_wait": (232, -1),
    "epoll_ctl": (233, 21), "openat": (257, 56), "mkdirat": (258, 34), "newfstatat": (262, 79),
    "unlinkat": (263, 35), "renameat": (264, 38), "linkat": (265, 37), "symlinkat": (266, 36),
    "readlinkat": (267, 78), "faccessat": (269, 48), "pselect6": (270, 72),
    "ppoll": (271, 73), "set_robust_list": (273, 99), "get_robust_list": (274, 100), "splice": (275, 76),
    "tee": (276, 77), "epoll_pwait": (281, 22), "timerfd_create": (283, 85),
    "eventfd": (284, -1), "fallocate": (285, 47), "timerfd_settime": (286, 86), "timerfd_gettime": (287, 87),
    "eventfd2": (290, 19), "epoll_create1": (291, 20), "dup3": (292, 24), "pipe2": (293, 59), "preadv": (295, 69),
    "pwritev": (296, 70), "getcpu": (309, 168), "renameat2": (316, 276), "getrandom": (318, 278),
    "membarrier": (324, 283), "copy_file_range": (326, 285), "preadv2": (327, 286), "pwritev2": (328, 287),
    "statx": (332, 291), "rseq": (334, 293), "close_range": (436, 436),
}  # fmt: skip
#: Landlock does not judge these; below a file system of one's own they reach every file of the user.
_METADATA = {
    "truncate": (76, 45), "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "utimes": (235, -1),
    "utimensat": (280, 88),
}  # fmt: skip
_FORKS = {"fork": (57, -1), "vfork": (58, -1)}
_CLONE, _PRLIMIT, _PRCTL = (56, 220), (302, 261), (157, 167)
_FCNTL, _IOCTL, _SENDTO = (72, 25), (16, 29), (44, 206)
#: Calls that open a file, and which of their arguments has the flags.
_OPENS = (((2, -1), 1), ((257, 56), 2))
_ACCESS, _TRUNCATES = 3, 0x200
#: Duplicates, flags, locks and pipe sizes. Not: owners and leases, through which the kernel signals other processes,
#: and locks of an open file (nor flock): on what a program shares with its zygote they would outlive it.
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1031, 1032)
#: Is it a terminal, its size, bytes waiting, blocking or not, close on exec. Not: owners, terminal input, file flags.
_IOCTL_REQUESTS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
_SIGNALS = {"kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131)}
#: What a zygote needs between programs. A program inherits the permission to ask, but has no capability left for any.
_ZYGOTE = {
    "mount": (165, 40), "umount2": (166, 39), "setresuid": (117, 147), "setresgid": (119, 149), "capset": (126, 91),
    "recvmsg": (47, 212), "pidfd_open": (434, 434),
}  # fmt: skip
_RECEIVE = {"recvmsg": (47, 212), "sendmsg": (46, 211), "setsockopt": (54, 208)}
#: Newer calls whose absence the C library or the program handles: clone3, openat2, faccessat2, fchmodat2.
_NO_SUCH_CALL = (435, 437, 439, 452)

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _KILL, _EPERM, _ENOSYS, _ENOTTY = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026, 0x00050019
_NEW_NAMESPACES = 0x7E020080  # every CLONE_NEW* flag
_THREAD = 0x00010000
_LOAD, _JEQ, _JGE, _JSET, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06


def program(*, own_pid: int | None = None, forks: bool = True, messages: bool = False) -> bytes:
    """The filter's instructions.

    ``own_pid``: with no namespaces around it, a process may signal only this pid (itself), and change no file's mode.
    ``forks``: whether processes may be started (threads always may). ``messages``: whether sendmsg and recvmsg are
    allowed (the judge receives a descriptor that way). Raises KeyError on a machine without a table.
    """
    machine = platform.machine()
    column = 0 if machine == "x86_64" else 1
    groups = [_ALLOWED, *([_FORKS] if forks else []), *([_RECEIVE] if messages else [])]
    if own_pid is None:
        groups += [_SIGNALS, _METADATA, _ZYGOTE]
    allowed = sorted({numbers[column] for group in groups for numbers in group.values()} - {-1})

    code = bytearray()

    def emit(operation: int, k: int, true: int = 0, false: int = 0) -> None:
        code.extend(struct.pack("HBBI", operation, true, false, k))

    def guarded(number: int, argument: int, checks: list[tuple[int, int, int, int]]) -> None:
        """One call that is judged by its argument's low word; ``checks`` end in a return."""
        emit(_JEQ, number, 0, 1 + len(checks))
        emit(_LOAD, 16 + 8 * argument)
        for check in checks:
            emit(*check)

    def one_of(values: tuple[int, ...], otherwise: int) -> list[tuple[int, int, int, int]]:
        tests = [(_JEQ, value, len(values) - i, 0) for i, value in enumerate(values)]
        return [*tests, (_RETURN, otherwise, 0, 0), (_RETURN, _ALLOW, 0, 0)]

    emit(_LOAD, 4)
    emit(_JEQ, _ARCH[machine], 1, 0)
    emit(_RETURN, _KILL)
    emit(_LOAD, 0)
    if column == 0:
        emit(_JGE, 0x40000000, 0, 1)  # the x32 calls
        emit(_RETURN, _EPERM)
    if forks:
        guarded(_CLONE[column], 0, [(_JSET, _NEW_NAMESPACES, 1, 0), (_RETURN, _ALLOW, 0, 0), (_RETURN, _EPERM, 0, 0)])
    else:
        guarded(_CLONE[column], 0, [(_JSET, _THREAD, 0, 1), (_RETURN, _ALLOW, 0, 0), (_RETURN, _EPERM, 0, 0)])
    guarded(_PRLIMIT[column], 0, [(_JEQ, 0, 0, 1), (_RETURN, _ALLOW, 0, 0), (_RETURN, _EPERM, 0, 0)])
    # prctl: the thread's name only (PR_SET_NAME 15, PR_GET_NAME 16).
    guarded(_PRCTL[column], 0, [(_JEQ, 15, 1, 0), (_JEQ, 16, 0, 1), (_RETURN, _ALLOW, 0, 0), (_RETURN, _EPERM, 0, 0)])
    guarded(_FCNTL[column], 1, one_of(_FCNTL_COMMANDS, _EPERM))
    guarded(_IOCTL[column], 1, one_of(_IOCTL_REQUESTS, _ENOTTY))
    # sendto without an address: with one, an unconnected pair would reach sockets that others have made.
    address_is_null = [(_JEQ, 0, 0, 3), (_LOAD, 16 + 8 * 4 + 4, 0, 0), (_JEQ, 0, 0, 1)]
    guarded(_SENDTO[column], 4, [*address_is_null, (_RETURN, _ALLOW, 0, 0), (_RETURN, _EPERM, 0, 0)])
    if own_pid is not None:
        for name in ("kill", "tgkill"):
            checks = [(_JEQ, own_pid, 0, 1), (_RETURN, _ALLOW, 0, 0), (_RETURN, _EPERM, 0, 0)]
            guarded(_SIGNALS[name][column], 0, checks)
        # Opened for reading alone, or for neither, a file can be emptied all the same; Landlock judges that from ABI 3.
        refuse = [(_RETURN, _ALLOW, 0, 0), (_RETURN, _EPERM, 0, 0)]
        for numbers, argument in _OPENS:
            if numbers[column] >= 0:
                checks = [(_JSET, _TRUNCATES, 0, 3), (_AND, _ACCESS, 0, 0), (_JEQ, 1, 1, 0), (_JEQ, 2, 0, 1)]
                guarded(numbers[column], argument, [*checks, *refuse])
    for number in _NO_SUCH_CALL:
        emit(_JEQ, number, 0, 1)
        emit(_RETURN, _ENOSYS)
    # A balanced search keeps the cost per call, and per installation, at eight comparisons.
    code.extend(_search(_ranges(allowed)))
    return bytes(code)


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Half-open runs of consecutive numbers."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs


def _search(runs: list[tuple[int, int]]) -> bytes:
    if not runs:
        return struct.pack("HBBI", _RETURN, 0, 0, _EPERM)
    if len(runs) == 1:
        first, end = runs[0]
        return b"".join((
            struct.pack("HBBI", _JGE, 0, 2, first),
            struct.pack("HBBI", _JGE, 1, 0, end),
            struct.pack("HBBI", _RETURN, 0, 0, _ALLOW),
            struct.pack("HBBI", _RETURN, 0, 0, _EPERM),
        ))  # fmt: skip
    half = len(runs) // 2
    low, high = _search(runs[:half]), _search(runs[half:])
    # Jumps reach 255 instructions: hop over the lower half with an unconditional jump, whose reach has no bound.
    always = struct.pack("HBBI", 0x05, 0, 0, len(low) // 8)
    return struct.pack("HBBI", _JGE, 0, 1, runs[half][0]) + always + low + high
