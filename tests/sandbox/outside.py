"""The world outside: what hostile programs are given to reach for."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dasd_bench

SECRET = "sk-canary-5f1c"
ABSTRACT = f"dasd-canary-{os.getpid()}"


@dataclass
class Outside:
    """What a program must not reach: a file, a listening port, sockets by file and by name, the environment."""

    folder: Path
    port: int
    hits: list[bytes]
    socket_path: str
    datagrams: list[socket.socket]

    def effects(self) -> list[str]:
        """What has been changed or reached, in words; empty if nothing."""
        found = [f"made {entry.name}" for entry in self.folder.iterdir() if entry.name != "canary"]
        canary = self.folder / "canary"
        if not canary.exists() or canary.read_text() != "untouched":
            found.append("changed the canary")
        return found + [f"sent {data!r}" for data in self.received()]

    def received(self) -> list[bytes]:
        """What has come in on the ports and sockets."""
        for one in self.datagrams:
            try:
                self.hits.append(one.recv(100))
            except BlockingIOError:
                continue
        return self.hits

    def fill(self, code: str) -> str:
        package = str(Path(dasd_bench.__file__).parent)
        values = {
            "canary": str(self.folder / "canary"), "canary_folder": str(self.folder), "package": package,
            "packages": str(Path(os.__file__).parent / "site-packages"), "port": str(self.port), "secret": SECRET,
            "abstract": ABSTRACT, "socket": self.socket_path, "harness": str(os.getpid()),
            "data": os.environ.get("DASD_DATA_DIR", "/nonexistent"),
        }  # fmt: skip
        return re.sub(r"\{(\w+)\}", lambda match: values.get(match.group(1), match.group(0)), code)


@contextlib.contextmanager
def open_outside(folder: Path, sockets: Path) -> Iterator[Outside]:
    """A canary file in ``folder``, a port and sockets that listen, and a secret in the environment."""
    (folder / "canary").write_text("untouched")
    folder.chmod(0o777)
    (folder / "canary").chmod(0o666)
    hits: list[bytes] = []
    path = str(sockets / "s")
    datagrams = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)]
    datagrams[0].bind(path)
    os.chmod(path, 0o777)
    if sys.platform == "linux":
        datagrams.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagrams[1].bind("\0" + ABSTRACT)
    for one in datagrams:
        one.setblocking(False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.settimeout(0.1)
        done = threading.Event()

        def listen() -> None:
            while not done.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    hits.append(b"connected")

        thread = threading.Thread(target=listen)
        thread.start()
        os.environ["DASD_TEST_SECRET"] = SECRET
        yield Outside(folder, port, hits, path, datagrams)
        del os.environ["DASD_TEST_SECRET"]
        done.set()
        thread.join()
    for one in datagrams:
        one.close()
