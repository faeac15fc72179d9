"""What older kernels and users other than root need: tried here on whatever kernel and user there is."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from dasd_bench.sandbox import Sample, Sandbox, probe_isolation

from .hostile import PROBLEM, RIGHT

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="needs Linux on x86_64 or aarch64",
)


def run_python(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


TRUNCATING = """
import os, sys
from dasd_bench.sandbox.inside import kernel, seccomp
path = sys.argv[1]
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
kernel.Filter(seccomp.program(own_pid=os.getpid(), forks=False)).install()
for flags in (os.O_RDONLY | os.O_TRUNC, 3 | os.O_TRUNC, os.O_RDONLY | os.O_TRUNC | os.O_CREAT | os.O_NOFOLLOW):
    try:
        os.open(path, flags)
    except PermissionError:
        pass
    else:
        sys.exit(f"opened with {flags:o}")
    if os.uname().machine == "x86_64" and kernel._libc.syscall(2, path.encode(), flags, 0) >= 0:
        sys.exit(f"opened with {flags:o} by the older call")
for flags in (os.O_RDONLY, os.O_RDONLY | os.O_CREAT, os.O_RDWR, os.O_WRONLY | os.O_APPEND):
    os.close(os.open(path, flags))
print(open(path).read())
for flags in (os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_TRUNC | os.O_CREAT):
    os.close(os.open(path, flags))
"""


def test_a_file_opened_for_reading_is_not_emptied(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("untouched")
    assert run_python(TRUNCATING, str(path)) == "untouched\n"
    assert path.read_text() == ""


READ_ONLY = """
import json, struct
from dasd_bench.sandbox.inside import kernel
instructions = [(0x20, 0, 0, 0), (0x15, 0, 1, 442), (0x06, 0, 0, 0x00050026), (0x06, 0, 0, 0x7FFF0000)]
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
kernel.Filter(b"".join(struct.pack("HBBI", op, yes, no, k) for op, yes, no, k in instructions)).install()
from dasd_bench.sandbox import Problem, Sample, Sandbox
program = '''
import os, sysconfig
def f():
    writable = []
    standard = sysconfig.get_path('stdlib')
    for path in ('/', '/dev', '/dev/null', standard, '/lib', '/lib64', '/usr/lib', '/packages/numpy'):
        if os.path.exists(path) and not os.statvfs(path).f_flag & os.ST_RDONLY: writable.append(path)
    open('here', 'w').write('x')
    open('/dev/null', 'w').write('x')
    return writable
'''
with Sandbox(1, isolation="namespaces") as sandbox:
    problem = Problem("p", "mbpp", entry_point="f", tests=("assert f() == []",))
    (result,) = sandbox.run([Sample("p", program)], [problem])
print(json.dumps([result.outcome.value, result.detail]))
"""


def test_before_linux_5_12_every_mount_is_read_only_too() -> None:
    if "namespaces" not in [level.value for level in probe_isolation().available]:
        pytest.skip("this machine allows no user namespaces")
    assert json.loads(run_python(READ_ONLY)) == ["passed", ""]


#: Another user's place: whoever runs this is user 1000 there, so a program keeps its zygote's user id.
AS_USER = """
import json, os
from dasd_bench.sandbox.inside import kernel
from dasd_bench.sandbox.inside.levels import namespaces
try:
    maps = f"1000 {os.getuid()} 1\\n", f"1000 {os.getgid()} 1\\n"
    namespaces._unshare_and_map(kernel.CLONE_NEWUSER, os.getpid(), maps)
except OSError:
    print("[]")
    raise SystemExit
from dasd_bench.sandbox.errors import SettingError
from dasd_bench.sandbox import Limits, Sample, Sandbox
from tests.sandbox.hostile import PROBLEM, PROGRAMS, RIGHT
kill = next(program for program in PROGRAMS if program.name == "kill_parent")
samples = [Sample("p", code) for code in (kill.code, RIGHT) * 3]
try:
    with Sandbox(1, Limits(1, 3), isolation="namespaces") as sandbox:
        worker = sandbox._slots[0].worker
        results = sandbox.run(samples, [PROBLEM])
        same = worker is sandbox._slots[0].worker
except SettingError:
    print("[]")
    raise SystemExit
print(json.dumps([same, [r.outcome.value for r in results], kill.outcomes]))
"""


def test_a_program_of_its_zygotes_user_does_not_end_it() -> None:
    found = json.loads(run_python(AS_USER))
    if not found:
        pytest.skip("this machine allows no user namespaces to users")
    same, outcomes, allowed = found
    assert same
    assert outcomes[1::2] == ["passed"] * 3
    assert set(outcomes[::2]) <= set(allowed)


def test_no_lock_outlives_its_program(any_box: Sandbox) -> None:
    lock = (
        "import fcntl, os, struct\nfor fd in (0, 1, 2):\n    for act in (\n"
        "        lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),\n"
        "        lambda: fcntl.fcntl(fd, 37, struct.pack('hhqqi4x', 1, 0, 0, 0, 0)),\n    ):\n"
        "        try: act()\n        except OSError: pass\n"
    )
    with open(os.devnull, "r+b") as null:
        for _ in range(2):
            (result,) = any_box.run([Sample("p", lock + RIGHT)], [PROBLEM])
            assert result.passed, result
            fcntl.flock(null, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(null, fcntl.LOCK_UN)
