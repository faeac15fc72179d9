"""Starts the small processes on the far side: never a fork of the calling process, which may hold a model."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from typing import Any

from .container import HOME, Absent, Bubblewrap, Docker, find_engine
from .inside.jail import LINKS, WORK, empty_folder
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
_CLEANING_TRIES = 20
_WORKDIR = "/tmp"
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
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        workdir = _WORKDIR
        sizes = {
            "memory": max(_MIN_MEMORY, int(limits.memory_gib * (1 << 30))), "output": limits.output_bytes,
            "file": limits.file_bytes, "processes": limits.processes,
        }  # fmt: skip
        wrapper: Bubblewrap | Docker | None = None
        inner = level.value
        if level is IsolationLevel.CONTAINER:
            inner = "contained"
            try:
                if find_engine(engine) == "docker":
                    wrapper = Docker(limits.file_bytes, limits.processes, packages)
                else:
                    wrapper = Bubblewrap(limits.file_bytes, packages)
            except (Absent, OSError, subprocess.SubprocessError) as error:
                raise StartError(str(error)) from None
        elif level is not IsolationLevel.NAMESPACES:
            self._folder = tempfile.TemporaryDirectory(prefix="dasd-sandbox-", ignore_cleanup_errors=True)
            base = os.path.realpath(self._folder.name)
            workdir, links = os.path.join(base, WORK), os.path.join(base, LINKS)
            os.mkdir(workdir, 0o700)
            os.mkdir(links, 0o755)
            for package in packages:
                os.symlink(package, os.path.join(links, os.path.basename(package)))
        super().__init__("zygote", [inner, workdir, sizes, packages], wrapper)

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
            raise StartError(str(hello["error"]) if hello else "its process ended at once")

    def close(self) -> None:
        super().close()
        if self._folder is not None:
            # First what a program left, which may be nested too deep for the standard library; a program whose zygote
            # ended under it may still be ending, too.
            for _ in range(_CLEANING_TRIES):
                try:
                    empty_folder(os.path.join(self._folder.name, WORK))
                    break
                except OSError:
                    time.sleep(0.01)
            self._folder.cleanup()


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
