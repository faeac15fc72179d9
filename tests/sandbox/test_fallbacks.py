"""Machines that allow less: no user namespaces, no Landlock either, and a system that is no Linux.

The first two are made by a filter that refuses those system calls in a process of its own; the last by telling the
sandbox's processes that they run elsewhere, so that they take the other path (the kernel is still Linux's).
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

from dasd_bench.sandbox import Limits, Outcome, Sample, Sandbox, launch, probe_isolation

from .hostile import LEFTOVERS, PROBLEM, PROGRAMS, RIGHT

REFUSING = """
import json, struct, sys
from dasd_bench.sandbox.inside import kernel
instructions = [(0x20, 0, 0, 0)]
for number in {numbers}:
    instructions += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050001)]
instructions.append((0x06, 0, 0, 0x7FFF0000))
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
kernel.Filter(b"".join(struct.pack("HBBI", op, yes, no, k) for op, yes, no, k in instructions)).install()
from dasd_bench.sandbox.errors import SettingError
from dasd_bench.sandbox import Limits, Sample, Sandbox, probe_isolation
from tests.sandbox.hostile import PROBLEM, RIGHT
found = dict(levels=[level.value for level in probe_isolation().available])
for allow in (False, True):
    try:
        with Sandbox(1, Limits(1, 3), allow_unsafe=allow) as sandbox:
            results = sandbox.run([Sample("p", RIGHT), Sample("p", "def solve(x): return 4")], [PROBLEM])
            found[str(allow)] = [[r.passed for r in results], results[0].isolation_level]
    except SettingError as error:
        found[str(allow)] = str(error)
print(json.dumps(found))
"""
UNSHARE = {"x86_64": 272, "aarch64": 97}
LANDLOCK = 444
#: Families whose programs forge a verdict, end early, use too much or break the channel: handled at every level.
EVERYWHERE = {2, 3, 4, 6, 9, 10, 15, 17, 18, 19, 20, 21, 23, 26}

linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in UNSHARE, reason="needs Linux on x86_64 or aarch64"
)


def without(*numbers: int) -> dict[str, object]:
    """What a process finds that is refused those system calls."""
    code = REFUSING.replace("{numbers}", repr(numbers))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@linux
def test_without_user_namespaces_landlock_takes_over() -> None:
    if "landlock" not in [level.value for level in probe_isolation().available]:
        pytest.skip("this kernel has no Landlock")
    found = without(UNSHARE[platform.machine()])
    assert "namespaces" not in found["levels"]  # type: ignore[operator]
    assert found["False"] == found["True"] == [[True, False], "landlock"]


@linux
def test_without_either_it_refuses_unless_told_otherwise() -> None:
    found = without(UNSHARE[platform.machine()], LANDLOCK)
    assert found["levels"] == ["rlimits"]
    assert "--allow-unsafe-code" in str(found["False"])
    assert "namespaces: " in str(found["False"])
    assert found["True"] == [[True, False], "rlimits"]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox's processes take their path for systems that are no Linux."""
    pretend = (
        "import os,sys,sysconfig\nsysconfig.get_config_vars()\nsys.platform='freebsd14'\n"
        "if hasattr(os,'pidfd_open'): del os.pidfd_open\n"
    )
    monkeypatch.setattr(launch, "_BOOT", pretend + launch._BOOT)


def test_elsewhere_no_verdict_is_forged_and_limits_hold(elsewhere: None) -> None:
    limits = Limits(cpu_seconds=1.0, wall_seconds=3.0, memory_gib=0.5, output_bytes=1 << 20, file_bytes=4 << 20)
    chosen = [p for p in PROGRAMS if p.family in EVERYWHERE and "{" not in p.code.replace("{}", "")]
    samples = [Sample("p", p.code) for p in chosen for _ in (0, 1)]
    samples[1::2] = [Sample("p", RIGHT)] * len(chosen)
    with Sandbox(2, limits, isolation="rlimits", required_level="rlimits", allow_unsafe=True) as sandbox:
        results = sandbox.run(samples, [PROBLEM])
        harmless = sandbox.run([Sample("p", p.code) for p in LEFTOVERS], [PROBLEM])
    assert [p.id for p, r in zip(chosen, results[::2], strict=True) if r.passed] == []
    assert [r for r in results[1::2] if not r.passed] == []
    assert [r for r in results if r.outcome is Outcome.INFRASTRUCTURE_ERROR] == []
    assert [p.name for p, r in zip(LEFTOVERS, harmless, strict=True) if not r.passed] == []


def test_elsewhere_what_a_program_starts_ends_with_it(elsewhere: None) -> None:
    mark = "dasd-left-behind-7141"
    code = (
        f"import os, time\nif os.fork() == 0:\n    while True: time.sleep(0.1) or {mark!r}\n"
        "def solve(x): return 3 * x + 1\n"
    )
    with Sandbox(1, Limits(1, 3), isolation="rlimits", required_level="rlimits", allow_unsafe=True) as sandbox:
        (result,) = sandbox.run([Sample("p", code)], [PROBLEM])
        assert result.passed, result
        pid = sandbox._slots[0].worker._popen.pid
        left = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
        assert left == []
