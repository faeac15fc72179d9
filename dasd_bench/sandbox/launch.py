"""Starts the small processes on the far side: never a fork of the calling process, which may hold a model."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import struct
import subprocess
import sys
from typing import Any

from .container import HOME, Absent, Bubblewrap, Docker
from .inside.zygote import CAUSES, FRAME_BYTES, REPORT
from .model import IsolationLevel, Limits

#: Loads dasd_bench.sandbox.inside and nothing else of dasd_bench: no package __init__ above it runs.
_BOOT = (
    "import sys,types\n"
    "for n,d in (('dasd_bench',''),('dasd_bench.sandbox',sys.argv[1])):\n"
    "    m=types.ModuleType(n);m.__path__=[d];sys.modules[n]=m\n"
    "sys.path[:]=[p for p in sys.path if p]\n"
    "from dasd_bench.sandbox.inside.{module} import main\n"
    "import json\n"
    "main(*json.loads(sys.argv[2]))\n"
)
_START_SECONDS = 30.0
_END_SECONDS = 0.5
#: Python itself needs this much address space.
_MIN_MEMORY = 96 << 20


class StartError(Exception):
    """A process on the far side did not come up; the message says why."""


def _spawn(module: str, control: socket.socket, arguments: list[Any], wrapper: list[str]) -> subprocess.Popen[bytes]:
    """Starts a module of ``inside``. The first argument is where its control socket is."""
    folder = HOME if wrapper else os.path.dirname(os.path.abspath(__file__))
    python = os.path.realpath(sys.executable)
    command = [
        *wrapper, python, "-S", "-s", "-B", "-X", "utf8", "-c", _BOOT.replace("{module}", module), folder,
        json.dumps(arguments),
    ]  # fmt: skip
    docker = {name: value for name, value in os.environ.items() if name.startswith(("DOCKER_", "HOME", "PATH"))}
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        # One seed for the order of sets, so that a verdict does not change from run to run.
        env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "LD_BIND_NOW": "1"} | (docker if wrapper else {}),
        pass_fds=(control.fileno(),),
        start_new_session=True,
    )


def receive(sock: socket.socket) -> dict[str, Any] | None:
    """The next report of a process we started; None when it has gone. Its bytes are our own code's."""
    head = _exactly(sock, 4)
    if head is None:
        return None
    (length,) = struct.unpack(">I", head)
    body = _exactly(sock, length)
    return None if body is None else json.loads(body)


def receive_report(sock: socket.socket) -> dict[str, Any] | None:
    """A zygote's next report, as a dict; None when it has gone."""
    data = _exactly(sock, REPORT.size)
    if data is None:
        return None
    seq, status, cause, cpu, peak = REPORT.unpack(data)
    return {"seq": seq, "status": status, "cause": CAUSES[cause], "cpu": cpu, "peak": peak}


def _exactly(sock: socket.socket, size: int) -> bytes | None:
    parts = []
    while size:
        try:
            data = sock.recv(size)
        except OSError:
            return None
        if not data:
            return None
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


class Process:
    """A started process and its control socket."""

    def __init__(self, module: str, arguments: list[Any], engine: Bubblewrap | Docker | None = None) -> None:
        self._engine = engine
        ours, theirs = socket.socketpair()
        self.control = ours
        try:
            place = engine.control_path if isinstance(engine, Docker) else theirs.fileno()
            self._popen = _spawn(module, theirs, [place, *arguments], engine.command if engine else [])
        finally:
            theirs.close()
        self.control.settimeout(_START_SECONDS)

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def ended_by(self) -> int:
        """The signal that ended it, 0 while it lives or where it ended otherwise."""
        try:
            return max(0, -self._popen.wait(_END_SECONDS))
        except subprocess.TimeoutExpired:
            return 0

    def close(self) -> None:
        """Ends it, and with it everything it started."""
        self.control.close()
        # It ends by itself when its socket closes, and is then counted in this process's resource usage whole.
        try:
            self._popen.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            if self._engine is not None:
                self._engine.stop()
            self._popen.kill()
            self._popen.wait()


class WorkerProcess(Process):
    """A zygote at a level. It is started at once; :meth:`wait` says whether it came up."""

    def __init__(self, level: IsolationLevel, limits: Limits, packages: list[str], engine: str = "") -> None:
        sizes = {
            "memory": max(_MIN_MEMORY, int(limits.memory_gib * (1 << 30))), "output": limits.output_bytes,
            "file": limits.file_bytes, "processes": limits.processes,
        }  # fmt: skip
        try:
            self._place = level.made_by.place(limits, packages, engine)
        except (Absent, OSError, subprocess.SubprocessError) as error:
            raise StartError(str(error)) from None
        super().__init__("zygote", [level.value, self._place.workdir, sizes, packages], self._place.wrapper)

    def wait(self) -> None:
        """Returns when it is ready for programs. Raises StartError, and closes, where the level is refused."""
        if isinstance(self._engine, Docker):
            try:
                control = self._engine.accept(_START_SECONDS)
            except OSError:
                self.close()
                raise StartError("Docker did not start the container") from None
            self.control.close()
            self.control = control
            self.control.settimeout(_START_SECONDS)
        hello = receive(self.control)
        if hello is None or "error" in hello:
            self.close()
            raise StartError(str(hello["error"]) if hello else "its process exited immediately")

    def close(self) -> None:
        super().close()
        self._place.clean()


class JudgeProcess(Process):
    """A judge, with the problems it has been sent."""

    def __init__(self, memory_bytes: int) -> None:
        where = importlib.util.find_spec("numpy")
        packages = os.path.dirname(os.path.dirname(where.origin)) if where and where.origin else ""
        super().__init__("judge", [memory_bytes, packages])
        self.known: set[int] = set()


def importable_packages(names: tuple[str, ...]) -> list[str]:
    """Folders of the installed packages of those names, with the shared libraries that come beside them."""
    folders = []
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.origin:
            continue
        folder = os.path.dirname(spec.origin)
        folders += [path for path in (folder, folder + ".libs") if os.path.isdir(path)]
    return folders


__all__ = ["FRAME_BYTES", "JudgeProcess", "Process", "StartError", "WorkerProcess", "importable_packages", "receive"]
