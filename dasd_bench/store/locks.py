"""A lock that many processes, on one machine or on several that share a file system, agree on.

The lock is a file made with ``O_CREAT | O_EXCL``; it names its owner, and a heartbeat thread keeps touching it. A lock
whose owner died is taken over: at once where the owner ran on this machine, else when its heartbeat has stopped.

Why not the ``filelock`` package: its ``FileLock`` rests on ``flock``, which many shared file systems lack or keep to
one host, and its ``SoftFileLock`` has no heartbeat. ``SoftFileLease`` has one, but only from release 3.30 on, newer
than what torch and datasets ask for. With it, the sentences for the user and ``held`` would remain here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import random
import socket
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import psutil

from dasd_bench.errors import StoreError
from dasd_bench.store.atomic import is_plain_file

UNSIGNED_SECONDS = 10.0
"""How long a lock file that names no owner is waited for: its maker signs it at once, or has died."""

FIRST_POLL = 0.02
LAST_POLL = 1.0


@dataclass(frozen=True, slots=True)
class LockOwner:
    """Who holds a lock. ``machine`` tells boots and pid namespaces apart, ``process_started`` reused pids."""

    token: str
    host: str
    machine: str
    pid: int
    process_started: float
    since: float


def machine_id() -> str:
    """Names the pid space of this process by boot id and pid namespace: a pid means something only in its own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()}/{psutil.boot_time():.0f}"


def this_owner() -> LockOwner:
    """This process as the owner of a new lock."""
    return LockOwner(
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        machine=machine_id(),
        pid=os.getpid(),
        process_started=psutil.Process().create_time(),
        since=time.time(),
    )


def read_owner(path: Path) -> LockOwner | None:
    """The owner written in a lock file; None where there is none, or its owner died before it wrote its name."""
    if not is_plain_file(path):
        return None
    try:
        owner = LockOwner(**json.loads(path.read_text(encoding="utf-8")))
        numbers = (owner.pid, owner.process_started, owner.since)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return owner if all(isinstance(number, int | float) for number in numbers) else None


def is_dead(owner: LockOwner) -> bool:
    """True only where the owner ran in this machine's pid space and its process is gone."""
    if owner.machine != machine_id():
        return False
    try:
        process = psutil.Process(owner.pid)
        another = abs(process.create_time() - owner.process_started) > 2.0
        return bool(another or process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


class FileLock:
    """A context manager that holds the lock file ``path`` while its block runs. Not re-entrant.

    ``heartbeat_seconds`` is the time between two touches of the file. A lock whose modification time did not change
    for ``stale_seconds`` by the waiter's own clock counts as abandoned, so clocks of different machines are never
    compared; keep it above the attribute cache of a network file system (60 s by default on NFS).
    ``timeout`` limits the wait in seconds (None: no limit) and ends in :class:`StoreError` naming the owner;
    ``on_wait`` is called once with a sentence for the user when the lock is found taken.
    """

    def __init__(
        self,
        path: Path,
        *,
        heartbeat_seconds: float = 10.0,
        stale_seconds: float = 120.0,
        timeout: float | None = None,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        self.path = Path(path)
        self.heartbeat_seconds = heartbeat_seconds
        self.stale_seconds = stale_seconds
        self.timeout = timeout
        self.on_wait = on_wait
        self._owner: LockOwner | None = None
        self._stop = threading.Event()
        self._beat: threading.Thread | None = None

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @property
    def held(self) -> bool:
        """True while this object's own lock file stands; False after another process took it over."""
        if self._owner is None:
            return False
        owner = read_owner(self.path)
        return owner is not None and owner.token == self._owner.token

    @property
    def lost(self) -> bool:
        """True after the lock file was removed or taken over; a file that cannot be read just now is not lost."""
        owner = read_owner(self.path)
        if owner is None or self._owner is None:
            return not os.path.lexists(self.path)
        return owner.token != self._owner.token

    def acquire(self) -> None:
        """Waits for the lock and takes it."""
        started = time.monotonic()
        poll, reported = FIRST_POLL, False
        watch: tuple[int, int] | None = None
        watched_since = started
        while not self._create():
            if self._is_no_file():
                raise StoreError(f"'{self.path}' is not a lock file; remove it and try again.")
            owner = read_owner(self.path)
            seen = self._stamp()
            if seen != watch:
                watch, watched_since = seen, time.monotonic()
            patience = self.stale_seconds if owner is not None else min(UNSIGNED_SECONDS, self.stale_seconds)
            abandoned = time.monotonic() - watched_since > patience
            if seen is not None and (abandoned or (owner is not None and is_dead(owner))):
                self._take_away(owner, seen)
                continue
            sentence = self._sentence(owner)
            if self.timeout is not None and time.monotonic() - started > self.timeout:
                raise StoreError(f"{sentence} It was not released in {self.timeout:g} s; try again when it is.")
            if self.on_wait is not None and not reported and (owner is not None or poll > 4 * FIRST_POLL):
                self.on_wait(f"{sentence} Waiting for it.")
                reported = True
            # Jitter keeps many waiters from asking a shared file system in step.
            time.sleep(poll * random.uniform(0.5, 1.0))
            poll = min(poll * 1.5, LAST_POLL)
        self._stop.clear()
        self._beat = threading.Thread(target=self._keep_alive, name=f"heartbeat {self.path.name}", daemon=True)
        self._beat.start()

    def release(self) -> None:
        """Gives the lock back; does nothing where another process has taken it over."""
        if self._owner is None:
            return
        self._stop.set()
        if self._beat is not None:
            self._beat.join()
        self._take_away(self._owner, None)
        self._owner = None

    def _create(self) -> bool:
        try:
            handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        except FileNotFoundError:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(_cannot(self.path, error)) from error
            return False
        except OSError as error:
            raise StoreError(_cannot(self.path, error)) from error
        owner = this_owner()
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(owner), file)
        except OSError as error:
            self.path.unlink(missing_ok=True)
            raise StoreError(_cannot(self.path, error)) from error
        self._owner = owner
        return True

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _is_no_file(self) -> bool:
        """True for a folder, link or FIFO in the lock's place; False where nothing is there (any more)."""
        try:
            return not stat.S_ISREG(self.path.lstat().st_mode)
        except OSError:
            return False

    def _take_away(self, owner: LockOwner | None, seen: tuple[int, int] | None) -> None:
        """Removes the lock file if it still is the one of ``owner`` (and, where given, still unchanged as ``seen``).

        Look and removal are one step for every process that does this: they hold the kernel's lock on the file.
        """
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file, _kernel_lock(file.fileno()):
            status = os.fstat(file.fileno())
            if self._stamp() is None or status.st_ino != self.path.stat().st_ino:
                return
            if seen is not None and (status.st_ino, status.st_mtime_ns) != seen:
                return
            current = read_owner(self.path)
            if (current and current.token) == (owner and owner.token):
                self.path.unlink()

    def _keep_alive(self) -> None:
        while not self._stop.wait(self.heartbeat_seconds):
            # A touch that fails now (a busy file server) is made good by the next one.
            with contextlib.suppress(OSError):
                if self.held:
                    os.utime(self.path)

    def _sentence(self, owner: LockOwner | None) -> str:
        if owner is None:
            return f"'{self.path}' names no owner; it will be taken over in {UNSIGNED_SECONDS:.0f} s."
        minutes = (time.time() - owner.since) / 60
        return f"'{self.path}' is locked by process {owner.pid} on {owner.host} ({minutes:.0f} min)."


@contextlib.contextmanager
def _kernel_lock(handle: int) -> Iterator[None]:
    """Holds ``flock`` on an open file where the file system has it; a file system without it goes unguarded."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
    yield


def _cannot(path: Path, error: OSError) -> str:
    return f"Cannot write the lock file '{path}': {error.strerror}; free disk space there or choose another folder."
