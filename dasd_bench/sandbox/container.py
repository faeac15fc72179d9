"""The container level: a zygote inside bubblewrap or Docker, neither with an image that holds Python.

This machine's own interpreter and libraries are mounted, read-only.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile

from .inside.jail import INNER_UID, PACKAGES, installed_packages, readable_paths
from .inside.levels.container import LEVEL

#: Where our own modules lie in a container.
HOME = "/dasd"
_IMAGE = "dasd-sandbox:empty"
_CONTROL = "/control"
_DAEMON_SECONDS = 20.0
_INSIDE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inside")


class Absent(Exception):  # noqa: N818
    """An engine that this machine lacks; the message says what is missing."""


def find_engine(wanted: str = "") -> str:
    """The engine to use: ``wanted``, or the first that works. Raises Absent."""
    reasons = []
    for name in [wanted] if wanted else LEVEL.engines:
        try:
            _check_bubblewrap() if name == "bubblewrap" else _check_docker()
        except Absent as error:
            reasons.append(str(error))
        else:
            return name
    raise Absent(" and ".join(reasons))


def wrapper(engine: str, file_bytes: int, processes: int, packages: list[str]) -> Bubblewrap | Docker:
    """The container of that engine, or of the first that works. Raises Absent, OSError or SubprocessError."""
    if find_engine(engine) == "docker":
        return Docker(file_bytes, processes, packages)
    return Bubblewrap(file_bytes, packages)


def _check_bubblewrap() -> None:
    if shutil.which("bwrap") is None:
        raise Absent("bubblewrap (bwrap) is not installed")


def _check_docker() -> None:
    if sys.platform != "linux":
        raise Absent("Docker is used on Linux only, where it can mount this Python")
    if shutil.which("docker") is None:
        raise Absent("Docker is not installed")
    try:
        subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True, check=True, timeout=_DAEMON_SECONDS,
        )  # fmt: skip
    except (subprocess.SubprocessError, OSError):
        raise Absent("Docker's daemon does not answer") from None


def _mounts(packages: list[str]) -> list[tuple[str, str]]:
    """What a container sees of this machine: pairs of a path here and its place there."""
    same = [*readable_paths(), os.path.realpath(sys.executable)]
    places = [(path, path) for path in same] + [(_INSIDE, os.path.join(HOME, "inside"))]
    return places + [(path, os.path.join(PACKAGES, os.path.basename(path))) for path in packages]


class Bubblewrap:
    """The command in front of the zygote's own; its control socket is inherited."""

    def __init__(self, file_bytes: int, packages: list[str]) -> None:
        uid = str(INNER_UID)
        command = [
            "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL",
            "--uid", uid, "--gid", uid, "--clearenv", "--setenv", "PYTHONHASHSEED", "0", "--setenv", "LANG", "C.UTF-8",
            "--dev", "/dev",
        ]  # fmt: skip
        for path, place in _mounts(packages):
            command += ["--ro-bind", path, place]
        for path in installed_packages(readable_paths()):
            command += ["--tmpfs", path, "--remount-ro", path]
        self.command = [*command, "--size", str(file_bytes), "--tmpfs", "/tmp", "--chdir", "/tmp", "--"]

    def stop(self) -> None:
        """Nothing outlives the started process."""


class Docker:
    """The command in front of the zygote's own. A container inherits no socket: it connects to one in a folder that it
    is given, and :meth:`accept` gives this side's end."""

    def __init__(self, file_bytes: int, processes: int, packages: list[str]) -> None:
        self._folder = tempfile.mkdtemp(prefix="dasd-sandbox-")
        self._name = f"dasd-sandbox-{secrets.token_hex(8)}"
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._build_image()
            os.chmod(self._folder, 0o711)
            path = os.path.join(self._folder, "control")
            self._listener.bind(path)
            os.chmod(path, 0o666)
            self._listener.listen(1)
        except BaseException:
            self.stop()
            raise
        size = f"size={file_bytes},mode=0700,uid={INNER_UID},gid={INNER_UID}"
        command = [
            "docker", "run", "--rm", "--name", self._name, "--pull", "never", "--network", "none", "--ipc", "none",
            "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user",
            f"{INNER_UID}:{INNER_UID}", "--pids-limit", str(processes + 1), "--tmpfs", f"/tmp:{size}", "--workdir",
            "/tmp", "--env", "PYTHONHASHSEED=0", "--env", "LANG=C.UTF-8", "--log-driver", "none",
            "--volume", f"{self._folder}:{_CONTROL}:ro",
        ]  # fmt: skip
        for path, place in _mounts(packages):
            command += ["--volume", f"{path}:{place}:ro"]
        for path in installed_packages(readable_paths()):
            command += ["--tmpfs", f"{path}:ro,size=4k"]
        self.command = [*command, _IMAGE]
        self.control_path = f"{_CONTROL}/control"

    @staticmethod
    def _build_image() -> None:
        """An image with nothing in it, made here: no registry is asked."""
        known = subprocess.run(["docker", "image", "inspect", _IMAGE], capture_output=True, timeout=_DAEMON_SECONDS)
        if known.returncode:
            empty = bytes(10240)  # the end of an archive without entries
            subprocess.run(
                ["docker", "import", "-", _IMAGE], input=empty, capture_output=True, check=True, timeout=_DAEMON_SECONDS
            )

    def accept(self, seconds: float) -> socket.socket:
        """This side's end of the control socket. Raises OSError where the container did not come up."""
        self._listener.settimeout(seconds)
        control, _ = self._listener.accept()
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        return control

    def stop(self) -> None:
        """Ends the container where it has not ended by itself."""
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            subprocess.run(["docker", "kill", self._name], capture_output=True, timeout=_DAEMON_SECONDS)
