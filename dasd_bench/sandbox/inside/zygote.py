"""A small process that forks one child per program, watches its limits, and leaves nothing of it behind.

It never sees a test or an expected value. It gets a program and one end of a fresh channel whose other end the judge
has, and reports how the child ended: exit status, CPU seconds, peak memory, and which limit, if any, it hit.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from typing import Any

from .guest import Guest
from .jail import CONTAINED, LANDLOCK, NAMESPACES, PACKAGES, Jail, enter, links_beside

if sys.platform == "linux":
    from . import kernel

#: A job: a header of fixed size that carries the descriptor, then the program's text.
HEADER = struct.Struct(">IddQ")  # sequence number, CPU seconds, wall seconds, bytes of source
#: Descriptors of a program: 0 to 2 as usual, its channel, and nothing else.
CHANNEL, _HIGH = 3, 63
STOP, STOP_GENTLY = b"s", b"g"
FRAME_BYTES = 64 << 20
_MIB = 1 << 20
_TICK_MS = 25
_GRACE_MS = 300

#: Imported once here, so that most programs find them ready; each makes every fork a little dearer.
PRELOAD = (
    "bisect", "collections", "copy", "datetime", "functools", "heapq", "itertools", "math", "operator",
    "random", "re", "string", "typing",
)  # fmt: skip


class Zygote:
    def __init__(self, control: socket.socket, jail: Jail, memory_bytes: int, output_bytes: int) -> None:
        self._control = control
        self._jail = jail
        self._memory_bytes = memory_bytes
        self._output_bytes = output_bytes
        self._guest = Guest(CHANNEL, FRAME_BYTES)
        self._pristine = self._workdir_state()
        self._linux = sys.platform == "linux"
        self._told_to_stop = False
        self._reaped: tuple[int, resource.struct_rusage] | None = None
        # Without a pid namespace the filter names the child's own pid, so it is made in the child.
        self._filter = jail.filter() if jail.own_processes else None

    def serve(self) -> None:
        """Answers jobs until the control socket closes."""
        while True:
            header, descriptors, _, _ = socket.recv_fds(self._control, HEADER.size, 1)
            if len(header) < HEADER.size:
                return
            job = HEADER.unpack(header)
            source = _exactly(self._control, job[3])
            self._report(job[0], self._run(job, source, descriptors[0]))

    def _report(self, seq: int, ended: dict[str, Any]) -> None:
        _say(self._control, {"seq": seq, **ended})

    def _run(self, job: tuple[Any, ...], source: bytes, channel: int) -> dict[str, Any]:
        _, cpu, wall, _ = job
        read_end, write_end = os.pipe()
        self._told_to_stop = False
        start = time.monotonic()
        pid = os.fork()
        if pid == 0:
            self._become_program(job, source, channel, write_end)
        os.close(channel)
        os.close(write_end)
        try:
            cause = self._watch(pid, read_end, start, cpu, wall)
        finally:
            os.close(read_end)
        status, cpu_seconds, peak = self._end(pid)
        self._clean()
        if not self._told_to_stop and not self._control.recv(1):  # exactly one word a job
            sys.exit(0)
        return {
            "status": status, "cause": cause, "cpu": cpu_seconds, "peak": peak / _MIB,
            "wall": time.monotonic() - start,
        }  # fmt: skip

    # ------------------------------------------------------------------ the child

    def _become_program(self, job: tuple[Any, ...], source: bytes, channel: int, out: int) -> None:
        """In the child: gives up every right the program must not have, then runs it. Never returns."""
        try:
            os.dup2(channel, _HIGH)  # out of the way of the numbers it is about to take
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.dup2(_HIGH, CHANNEL)
            os.closerange(CHANNEL + 1, _HIGH + 1)
            os.setsid()
            uid = self._jail.uid
            if uid is not None:
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            seconds = int(job[1]) + 1
            _limit("RLIMIT_CPU", seconds, seconds + 1)
            self._confine()
            gc.enable()
            self._guest.load(source)
            self._guest.serve()
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
        if self._jail.level == LANDLOCK:
            kernel.set_landlock([*self._jail.readable, "/dev/null", "/dev/urandom", "/dev/zero"], [self._jail.workdir])
        program = self._filter or self._jail.filter()
        if program is not None:
            program.install()

    # ------------------------------------------------------------------ the watch

    def _watch(self, pid: int, out: int, start: float, cpu: float, wall: float) -> str:
        """Waits for the child's end or a reason to end it; gives the reason, empty if it ended by itself."""
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(out, select.POLLIN)
        child = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
        if child >= 0:
            poller.register(child, select.POLLIN)
        seen = 0
        next_look = start + _TICK_MS / 1000
        gentle_until = 0.0
        try:
            while True:
                events = {fd for fd, _ in poller.poll(_TICK_MS if child >= 0 else 5)}
                if child in events or (child < 0 and self._has_ended(pid)):
                    return ""
                if out in events:
                    data = os.read(out, 1 << 16)
                    seen += len(data)
                    if not data:
                        poller.unregister(out)
                    if seen > self._output_bytes:
                        return "output"
                if self._control.fileno() in events and not gentle_until:
                    word = self._control.recv(1)
                    self._told_to_stop = True
                    if word != STOP_GENTLY:
                        if not word:
                            sys.exit(0)
                        return "stopped"
                    # The channel closed: the child is ending by itself, and its status will say how.
                    gentle_until = time.monotonic() + _GRACE_MS / 1000
                    poller.unregister(self._control)
                now = time.monotonic()
                if gentle_until and now > gentle_until:
                    return "stopped"
                if now - start > wall:
                    return "wall"
                if now > next_look:
                    next_look = now + _TICK_MS / 1000
                    if _cpu_seconds(pid) > cpu:
                        return "cpu"
                    if self._memory() > self._memory_bytes:
                        return "memory"
                    if self._jail.level != NAMESPACES and self._folder_bytes() > self._jail.file_bytes:
                        return "files"
        finally:
            if child >= 0:
                os.close(child)

    def _has_ended(self, pid: int) -> bool:
        """For systems without descriptors of processes: reaps the child once it has ended."""
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            self._reaped = (status, usage)
        return ended != 0

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

    def _folder_bytes(self) -> int:
        total = 0
        try:
            for entry in os.scandir(self._jail.workdir):
                total += 4096 + entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            pass
        return total

    # ------------------------------------------------------------------ the end

    def _end(self, pid: int) -> tuple[int, float, int]:
        """Kills and reaps what is left of the child's tree: wait status of the child, CPU seconds, peak bytes."""
        status, cpu, peak = 0, 0.0, 0
        unit = 1024 if self._linux else 1
        if self._reaped is not None:
            status, usage = self._reaped
            cpu, peak, self._reaped = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit, None
        self._kill_all(pid)
        while True:
            try:
                ended, raw, usage = os.wait4(-1, 0 if self._jail.own_processes else os.WNOHANG)
            except ChildProcessError:
                return status, cpu, peak
            if ended == 0:  # some are still dying, or were born meanwhile
                self._kill_all(pid)
                time.sleep(0.001)
                continue
            cpu += usage.ru_utime + usage.ru_stime
            peak = max(peak, usage.ru_maxrss * unit)
            if ended == pid:
                status = raw

    def _kill_all(self, pid: int) -> None:
        try:
            if self._jail.own_processes and os.getpid() == 1:
                os.kill(-1, signal.SIGKILL)
                return
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            pass
        for child in _children() if self._linux else [pid]:
            try:
                os.kill(child, signal.SIGKILL)
            except OSError:
                continue

    def _workdir_state(self) -> tuple[int, int, int]:
        state = os.stat(self._jail.workdir)
        return state.st_mode, state.st_ctime_ns, state.st_mtime_ns

    def _clean(self) -> None:
        """An untouched folder costs one stat; anything else is thrown away whole."""
        if self._workdir_state() == self._pristine and not os.listdir(self._jail.workdir):
            return
        os.chdir("/")
        self._jail.fresh_workdir()
        os.chmod(self._jail.workdir, 0o700)
        os.chdir(self._jail.workdir)
        self._pristine = self._workdir_state()


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


def _exactly(sock: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        data = sock.recv(min(size, _MIB))
        if not data:
            sys.exit(0)
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def main(descriptor: int, level: str, workdir: str, limits: dict[str, int], packages: list[str]) -> None:
    """Enters ``level``, says so on the control socket (or why not), and serves. ``limits``: memory, output and file
    bytes, and processes."""
    control = socket.socket(fileno=descriptor)
    for name in PRELOAD:
        __import__(name)
    os.environ.clear()
    try:
        jail = enter(level, workdir=workdir, file_bytes=limits["file"], packages=packages)
        os.chdir(workdir)
        zygote = Zygote(control, jail, limits["memory"], limits["output"])
    except OSError as error:
        _say(control, {"error": str(error)})
        return
    os.environ.update({"HOME": workdir, "TMPDIR": workdir, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1",
                       "OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"})  # fmt: skip
    if packages:
        sys.path.append(PACKAGES if level in (CONTAINED, NAMESPACES) else links_beside(workdir))
    # The streams a program finds: made here, on descriptors that each child redirects.
    sys.stdout, sys.stderr = (_stream(1), _stream(2))
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
    set_limits(limits["memory"], limits["file"], limits["processes"] if jail.counts_processes else None)
    _say(control, {"level": level})
    gc.collect()
    gc.disable()
    gc.freeze()
    zygote.serve()


def _stream(descriptor: int) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace")


def _say(control: socket.socket, report: dict[str, Any]) -> None:
    body = json.dumps(report).encode()
    control.sendall(struct.pack(">I", len(body)) + body)
