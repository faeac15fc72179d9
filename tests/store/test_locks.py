"""The lock file: exclusion between processes, takeover of dead owners, and what a user is told."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dasd_bench.errors import StoreError
from dasd_bench.store.locks import FileLock, is_dead, read_owner, this_owner

HOLD = """
import sys, time
from pathlib import Path
from dasd_bench.store.locks import FileLock
with FileLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""

COUNT = """
import sys, time
from pathlib import Path
from dasd_bench.store.locks import FileLock
counter, lock = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(20):
    with FileLock(lock):
        value = int(counter.read_text())
        time.sleep(0.001)
        counter.write_text(str(value + 1))
"""


def hold_in_another_process(lock: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_block_holds_the_file_and_leaves_none(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.lock"
    with FileLock(path) as lock:
        owner = read_owner(path)
        assert owner is not None
        assert owner.pid == os.getpid()
        assert lock.held
    assert list(path.parent.iterdir()) == []
    assert not lock.held


def test_an_error_in_the_block_frees_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), FileLock(tmp_path / "x.lock"):
        raise ZeroDivisionError
    assert not (tmp_path / "x.lock").exists()


def test_no_update_is_lost_between_processes(tmp_path: Path) -> None:
    counter, lock = tmp_path / "counter", tmp_path / "x.lock"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNT, str(counter), str(lock)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert counter.read_text() == "80"


def test_a_live_owner_is_waited_for_and_named(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    process = hold_in_another_process(path)
    said: list[str] = []
    try:
        with pytest.raises(StoreError, match=f"locked by process {process.pid} on .* try again"):
            FileLock(path, timeout=0.2, on_wait=said.append).acquire()
    finally:
        end(process)
    assert len(said) == 1
    assert "Waiting" in said[0]


def test_a_killed_owner_is_taken_over_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    process = hold_in_another_process(path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert path.exists()
    # The staleness time is far beyond the timeout: only the look at the pid can free the lock.
    with FileLock(path, stale_seconds=10_000, timeout=5) as lock:
        assert lock.held


def test_a_reused_pid_is_not_taken_for_the_owner() -> None:
    me = this_owner()
    assert not is_dead(me)
    assert is_dead(dataclasses.replace(me, process_started=me.process_started - 60))


def test_an_owner_elsewhere_is_judged_by_its_heartbeat_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    elsewhere = dataclasses.replace(this_owner(), machine="another boot", pid=2**22 - 1)
    assert not is_dead(elsewhere)
    path.write_text(json.dumps(dataclasses.asdict(elsewhere)))
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.02):
            os.utime(path)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(StoreError, match="locked by process"):
            FileLock(path, stale_seconds=0.3, timeout=1.0).acquire()
    finally:
        stop.set()
        thread.join()
    with FileLock(path, stale_seconds=0.3, timeout=20) as lock:
        assert lock.held


def test_the_heartbeat_touches_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with FileLock(path, heartbeat_seconds=0.02):
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 20
        while path.stat().st_mtime < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_an_owner_that_died_while_writing_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    path.touch()
    with FileLock(path, stale_seconds=0.1, timeout=20) as lock:
        assert lock.held


@pytest.mark.parametrize("text", ["", "{}", "[]", "{", '{"pid": 1}', "\x00"])
def test_a_lock_without_an_owner_is_said_and_taken_over(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.lock"
    path.write_text(text)
    said: list[str] = []
    with FileLock(path, stale_seconds=0.3, timeout=20, on_wait=said.append) as lock:
        assert lock.held
    assert len(said) == 1
    assert "names no owner" in said[0]


def test_an_owner_of_another_shape_is_no_owner(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    for name, value in (("pid", "7"), ("since", None), ("process_started", [])):
        path.write_text(json.dumps(dataclasses.asdict(this_owner()) | {name: value}))
        assert read_owner(path) is None


@pytest.mark.parametrize("kind", ["folder", "fifo", "dangling", "link"])
def test_what_is_no_lock_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "x.lock", tmp_path / "other"
    other.write_text("not ours")
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(other if kind == "link" else tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"x\.lock' is not a lock file; remove it"):
        FileLock(path).acquire()
    assert other.read_text() == "not ours"
    assert not (tmp_path / "nowhere").exists()


def test_release_leaves_a_lock_that_was_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    lock = FileLock(path)
    lock.acquire()
    successor = this_owner()
    path.write_text(json.dumps(dataclasses.asdict(successor)))
    assert not lock.held
    lock.release()
    owner = read_owner(path)
    assert owner is not None
    assert owner.token == successor.token


def test_a_stale_look_never_removes_the_successor(tmp_path: Path) -> None:
    """Two waiters saw the same dead owner; the slower one must not remove the lock the faster one made since."""
    path = tmp_path / "x.lock"
    dead = dataclasses.replace(this_owner(), process_started=0.0)
    path.write_text(json.dumps(dataclasses.asdict(dead)))
    slow = FileLock(path)
    seen = slow._stamp()
    with FileLock(path, timeout=5) as fast:
        slow._take_away(dead, seen)
        assert fast.held


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError, match="Cannot write the lock file"):
        FileLock(blocked / "x.lock").acquire()
