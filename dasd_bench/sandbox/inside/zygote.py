"""A small process that forks one child per program, watches its limits, and leaves nothing of it behind.

It never sees a test or an expected value. It gets a program and one end of a fresh channel whose other end the judge
has, and reports how the child ended: exit status, CPU seconds, peak memory, and which limit, if any, it hit.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import io
import json
import os
import random
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from typing import Any

from .guest import Guest
from .jail import Jail, folder_bytes, without_packages
from .levels import named
from .wire import Encoder

if sys.platform == "linux":
    from . import kernel

#: A job: a header of fixed size that carries the descriptor, then the program's text. The next job may be sent while
#: one runs. A header with ``STOP`` for a size has no descriptor and ends the job of that number, if it still runs.
HEADER = struct.Struct(">IddQ")  # sequence number, CPU seconds, wall seconds, bytes of source
STOP = (1 << 64) - 1
#: How the program ended: sequence number, wait status, index of the cause, CPU seconds, peak MiB.
REPORT = struct.Struct(">IiBdd")
CAUSES = ("", "stopped", "output", "wall", "cpu", "memory", "files")
#: Descriptors of a program: 0 to 2 as usual, its channel, and nothing else.
CHANNEL, CONTROL, _HIGH = 3, 40, 63
FRAME_BYTES = 64 << 20
_MIB = 1 << 20
_TICK = 0.025
#: CPython's small-object allocator. Were these wrong for a version, programs would start a little slower.
_POOL_BYTES, _POOL_HEADER, _LARGEST_POOLED, _MOST_GAPS = 16 << 10, 48, 512, 4000

#: Imported once here, so that most programs find them ready; each makes every fork a little dearer.
PRELOAD = (
    "bisect", "collections", "copy", "datetime", "functools", "heapq", "itertools", "math", "operator",
    "random", "re", "string", "typing",
)  # fmt: skip


class Zygote:
    def __init__(self, control: socket.socket, jail: Jail, memory_bytes: int, output_bytes: int) -> None:
        self._jail = jail
        self._memory_bytes = memory_bytes
        self._output_bytes = output_bytes
        self._linux = sys.platform == "linux"
        self._fork = kernel.bare_fork() if self._linux else os.fork
        self._rules = -1
        if jail.landlocked:
            readable = [*without_packages(jail.readable), *jail.packages, "/dev/null", "/dev/urandom", "/dev/zero"]
            self._rules = _move(kernel.landlock_rules(readable, [jail.workdir]), _HIGH)
        # High numbers for what is ours: a channel received then lands on CHANNEL, where the program wants it.
        self._control = socket.socket(fileno=_move(control.detach(), CONTROL))
        if jail.proc >= 0:
            jail.proc = _move(jail.proc, 41)
        self._output = -1
        self._scrap, self._drained = bytearray(1 << 16), 0
        self._poller = select.poll()
        self._poller.register(self._control, select.POLLIN)
        self._new_output()
        self.guest = Guest(CHANNEL, FRAME_BYTES)
        self._pristine = self._workdir_state()
        self._waiting: deque[tuple[int, float, float, bytearray, int]] = deque()
        self._pidfds = hasattr(os, "pidfd_open")
        self._reaped: tuple[int, resource.struct_rusage] | None = None

    def _new_output(self) -> None:
        """A pipe that takes what programs print: its write end is this process's own descriptors 1 and 2."""
        if self._output >= 0:
            self._poller.unregister(self._output)
            os.close(self._output)
        read_end, write_end = os.pipe()
        os.dup2(write_end, 1)
        os.dup2(write_end, 2)
        os.close(write_end)
        self._output = _move(read_end, 42)
        os.set_blocking(self._output, False)
        self._poller.register(self._output, select.POLLIN)
        self._flags = fcntl.fcntl(1, fcntl.F_GETFL)
        self._capacity = fcntl.fcntl(1, fcntl.F_GETPIPE_SZ) if self._linux else 0

    def serve(self) -> None:
        """Answers jobs until the control socket closes."""
        while True:
            while not self._waiting:
                self._receive()
            self._run(*self._waiting.popleft())

    def _receive(self) -> int:
        """Reads one message: a job is put behind the others, of a stop the job's number is returned (else -1). The
        source goes to the one place that :meth:`_run` wipes: what is freed here, the next program could read."""
        data, descriptors, _, _ = socket.recv_fds(self._control, HEADER.size, 1)
        while len(data) < HEADER.size:
            data += self._more(HEADER.size - len(data))
        seq, cpu, wall, size = HEADER.unpack(data)
        if size == STOP:
            return int(seq)
        source, got = bytearray(size), 0
        while got < size:
            with memoryview(source) as whole, whole[got:] as rest:
                received = self._control.recv_into(rest)
            if not received:
                sys.exit(0)
            got += received
        self._waiting.append((seq, cpu, wall, source, descriptors[0]))
        return -1

    def _more(self, size: int) -> bytes:
        data = self._control.recv(size)
        if not data:
            sys.exit(0)
        return data

    def _run(self, seq: int, cpu: float, wall: float, source: bytearray, channel: int) -> None:
        start = time.monotonic()
        pid = self._fork()
        if pid == 0:
            self._become_program(cpu, source, channel)
        os.close(channel)
        cause = self._watch(pid, seq, start, cpu, wall)
        source[:] = bytearray(len(source))  # in place; now that the child has ended, no page is copied for it
        status, cpu_seconds, peak = self._end(pid, ended=not cause)
        try:
            self._clean()
        finally:  # what cannot be cleaned ends this process, for it would meet the next program
            self._control.sendall(REPORT.pack(seq, status, CAUSES.index(cause), cpu_seconds, peak / _MIB))

    def announce(self, report: dict[str, Any]) -> None:
        _say(self._control, report)

    # ------------------------------------------------------------------ the child

    def _become_program(self, cpu: float, source: bytearray, channel: int) -> None:
        """In the child: gives up every right the program must not have, then runs it. Never returns."""
        try:
            if channel != CHANNEL:
                os.dup2(channel, CHANNEL)
            os.closerange(CHANNEL + 1, _HIGH)
            os.setsid()
            seconds = int(cpu) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
            uid = self._jail.uid
            if uid is not None:
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            self._confine()
            gc.enable()
            self.guest.load(source)
            self.guest.serve()
        finally:
            os._exit(0)

    def _confine(self) -> None:
        if not self._linux:
            return
        if not self._jail.own_processes:
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        if self._jail.uid is None:  # else the change of user has dropped them
            kernel.drop_capabilities()
        if self._rules >= 0:
            kernel.landlock(self._rules)
            os.close(self._rules)
        if not self._jail.filters_once:
            filtering = self._jail.filter()
            if filtering is not None:
                filtering.install()

    # ------------------------------------------------------------------ the watch

    def _watch(self, pid: int, seq: int, start: float, cpu: float, wall: float) -> str:
        """Waits for the child's end, the caller's word or a reason to end it; gives the reason, empty for its end."""
        control, output, poll = self._control.fileno(), self._output, self._poller.poll
        ended = os.pidfd_open(pid) if self._pidfds else -1
        if ended >= 0:
            self._poller.register(ended, select.POLLIN)
        seen = 0
        next_look = start + _TICK
        try:
            while True:
                for descriptor, _ in poll(_TICK * 1000):
                    if descriptor == ended:
                        return ""
                    if descriptor == output:
                        seen += self._drain()
                        if seen > self._output_bytes:
                            return "output"
                    elif descriptor == control and self._receive() == seq:
                        return "stopped"
                now = time.monotonic()
                if now <= next_look:
                    continue
                next_look = now + _TICK
                if ended < 0 and self._has_ended(pid):
                    return ""
                if now - start > wall:
                    return "wall"
                if _cpu_seconds(pid) > cpu:
                    return "cpu"
                if self._memory() > self._memory_bytes:
                    return "memory"
                most = self._jail.file_bytes
                if not self._jail.bounded and folder_bytes(self._jail.workdir, most) > most:
                    return "files"
        finally:
            if ended >= 0:
                self._poller.unregister(ended)
                os.close(ended)

    def _drain(self) -> int:
        """Takes what has been printed, into one place that is wiped before the next program; gives its bytes."""
        size = os.readv(self._output, (self._scrap,))
        self._drained = max(self._drained, size)
        return size

    def _has_ended(self, pid: int) -> bool:
        """Whether the child has ended; reaps it then. For systems without pidfds."""
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            self._reaped = (status, usage)
        return found != 0

    def _memory(self) -> int:
        """Bytes resident in all processes of the jail, less what each shares with this one by having been forked from
        it; 0 where that cannot be measured."""
        if self._jail.proc < 0:
            return 0
        resident = [self._resident(name) for name in os.listdir(self._jail.proc) if name.isdigit() and name != "1"]
        shared = self._resident("1")
        return sum(max(0, size - shared) for size in resident)

    def _resident(self, name: str) -> int:
        try:
            descriptor = os.open(f"{name}/statm", os.O_RDONLY, dir_fd=self._jail.proc)
        except OSError:  # ended meanwhile
            return 0
        try:
            fields = os.read(descriptor, 200).split()
        except OSError:
            return 0
        finally:
            os.close(descriptor)
        return (int(fields[1]) - int(fields[2])) * resource.getpagesize() if len(fields) > 2 else 0

    # ------------------------------------------------------------------ the end

    def _end(self, pid: int, ended: bool) -> tuple[int, float, int]:
        """Kills and reaps what is left of the child's tree: wait status of the child, CPU seconds, peak bytes.
        ``ended``: the child itself has ended, so there may be nothing to kill."""
        status, cpu, peak = 0, 0.0, 0
        unit = 1024 if self._linux else 1
        if self._reaped is not None:
            status, usage = self._reaped
            cpu, peak, self._reaped = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit, None
        if not (ended and self._linux):
            self._kill_all(pid)
        while True:
            try:
                found, raw, usage = os.wait4(-1, os.WNOHANG if ended or not self._jail.own_processes else 0)
            except ChildProcessError:  # nobody is left: who is not a child of this process descends from one
                return status, cpu, peak
            if found == 0:  # the program left processes behind, or some are still dying
                self._kill_all(pid)
                ended = ended and not self._jail.own_processes
                if not self._jail.own_processes:
                    time.sleep(0.001)
                continue
            cpu += usage.ru_utime + usage.ru_stime
            peak = max(peak, usage.ru_maxrss * unit)
            if found == pid:
                status = raw

    def _kill_all(self, pid: int) -> None:
        if self._jail.own_processes and os.getpid() == 1:
            with contextlib.suppress(ProcessLookupError):  # nobody left
                os.kill(-1, signal.SIGKILL)
            return
        if self._linux:
            # Orphans of the program have become this process's own children: it is a sub-reaper.
            for child in _children():
                with contextlib.suppress(OSError):
                    os.kill(child, signal.SIGKILL)
        else:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)

    def _workdir_state(self) -> tuple[int, ...]:
        """Differs from its first value once anything was ever made, removed or changed in the folder: a tmpfs folder's
        size counts its entries, and every change shows in its times."""
        state = os.stat(self._jail.workdir)
        return state.st_mode, state.st_size, state.st_nlink, state.st_ctime_ns, state.st_mtime_ns

    def _clean(self) -> None:
        """Back to how the first program found things. What is untouched costs a system call each."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._drain()
        if self._drained:
            self._scrap[: self._drained] = bytearray(self._drained)
            self._drained = 0
        # The pipe outlives its programs, so its settings must not.
        fcntl.fcntl(1, fcntl.F_SETFL, self._flags)
        if self._linux and fcntl.fcntl(1, fcntl.F_GETPIPE_SZ) != self._capacity:
            self._new_output()
        untouched = self._workdir_state() == self._pristine
        if untouched and (self._jail.bounded or not os.listdir(self._jail.workdir)):
            return
        os.chdir("/")
        self._jail.fresh_workdir()
        os.chmod(self._jail.workdir, 0o700)
        os.chdir(self._jail.workdir)
        self._pristine = self._workdir_state()


def _move(descriptor: int, to: int) -> int:
    if descriptor == to:
        os.set_inheritable(to, False)
        return to
    os.dup2(descriptor, to, inheritable=False)
    os.close(descriptor)
    return to


def set_limits(memory: int, file_bytes: int, processes: int | None) -> None:
    """Limits that every program inherits. The zygote itself lives far below them."""
    _limit("RLIMIT_AS", memory, memory)
    _limit("RLIMIT_FSIZE", file_bytes, file_bytes)
    _limit("RLIMIT_NOFILE", _HIGH + 1, _HIGH + 1)
    _limit("RLIMIT_STACK", 64 * _MIB, 64 * _MIB)
    for name in ("RLIMIT_CORE", "RLIMIT_MEMLOCK", "RLIMIT_MSGQUEUE"):
        _limit(name, 0, 0)
    if processes is not None:
        _limit("RLIMIT_NPROC", processes, processes)


def _limit(name: str, soft: int, hard: int) -> None:
    kind = getattr(resource, name, None)
    if kind is None:
        return
    ceiling = resource.getrlimit(kind)[1]
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    # macOS refuses some of them; Linux refuses none.
    with contextlib.suppress(ValueError):
        resource.setrlimit(kind, (soft, hard))


def _cpu_seconds(pid: int) -> float:
    """CPU seconds of a running child; 0 where the system has no clock per process."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except (OSError, AttributeError):
        return 0.0


def _children() -> list[int]:
    """Direct children of this process; orphans of its descendants become such (it is a sub-reaper)."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def main(control_at: int | str, level: str, workdir: str, limits: dict[str, int], packages: list[str]) -> None:
    """Enters ``level``, says so on the control socket (or why not), and serves. ``control_at``: that socket's
    descriptor, or its path. ``limits``: memory, output and file bytes, and processes."""
    # Process 1 of a namespace is safe from the signals of its programs only where it has no handler for them.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if isinstance(control_at, str):
        control = socket.socket(socket.AF_UNIX)
        control.connect(control_at)
    else:
        # At once, while nothing else is open: its number comes from the parent and may be one that is wanted below.
        control = socket.socket(fileno=_move(control_at, CONTROL))
    for name in PRELOAD:
        __import__(name)
    os.environ.clear()
    try:
        jail = named(level).enter(workdir, limits["file"], packages)
        os.chdir(workdir)
        zygote = Zygote(control, jail, limits["memory"], limits["output"])
    except OSError as error:
        _say(control, {"error": str(error)})
        return
    os.environ.update({"HOME": workdir, "TMPDIR": workdir, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1",
                       "OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"})  # fmt: skip
    if packages:
        sys.path.append(jail.package_folder)
    # The streams a program finds: made here, on descriptors that each child redirects.
    sys.stdout, sys.stderr = (_stream(1), _stream(2))
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
    set_limits(limits["memory"], limits["file"], limits["processes"] if jail.counts_processes else None)
    _warm_up()
    zygote.guest.install()
    zygote.announce({"level": level})
    if jail.filters_once:
        filtering = jail.filter()
        if filtering is not None:
            filtering.install()
    # Every program starts from the same seed: two runs give the same answer.
    random.seed(0)
    gc.collect()
    gc.disable()
    reserve = _fresh_pools()
    gc.freeze()
    zygote.serve()
    del reserve


_WARM = b"""
from typing import List, Dict, Optional, Any
import math, re
class Point:
    def __init__(self, x): self.x = x
def solve(numbers: List[int], word: str = "a") -> Dict[str, Any]:
    '''doc'''
    total = sum(n * 2 for n in numbers if n > 0)
    found = sorted({c for c in word}, key=lambda c: -ord(c))
    for i, n in enumerate(numbers):
        while n > 100 and i < 3:
            n //= 2
    try:
        int(word)
    except ValueError:
        total += len(found) % 7
    return {"total": total, "found": found, "text": f"{word!r:>5}".join(["a", "b"]), "t": (1, 2.5, None, True)}
"""


def _warm_up() -> None:
    """What the interpreter sets up at first use is set up here, once, and not in every program's process."""
    import socket as sockets

    ours, theirs = sockets.socketpair()
    encoder = Encoder(lambda *_: None, 1 << 20, functions=False)
    calls = [encoder.frame(["call", "solve", [[1, 2, 300], "word"], {"d": []}, False]) for _ in range(4)]
    calls.append(encoder.frame(["call", "missing", [], {"d": []}, False]))
    with ours, theirs:
        for _ in range(10):
            guest = Guest(theirs.fileno(), FRAME_BYTES)
            ours.sendall(b"".join(calls))
            guest.load(_WARM)
            for _ in calls:
                guest.step()
            ours.recv(1 << 16)


def _fresh_pools() -> list[bytes]:
    """Objects that fill the gaps in the allocator's pools. A program's first objects then lie side by side on pages
    that are new to it, not strewn over pages that the kernel would have to copy."""
    filling: list[bytes] = []
    overhead = sys.getsizeof(b"")
    for size in range(48, _LARGEST_POOLED + 1, 16):
        for _ in range(_MOST_GAPS):
            filling.append(bytes(size - overhead))
            if id(filling[-1]) % _POOL_BYTES == _POOL_HEADER:  # the first one of a new pool
                break
    return filling


def _stream(descriptor: int) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace")


def _say(control: socket.socket, report: dict[str, Any]) -> None:
    body = json.dumps(report).encode()
    control.sendall(struct.pack(">I", len(body)) + body)
