"""Families 1 to 8: programs that end early, use up the machine, or reach for files and the network."""

from __future__ import annotations

from .hostile_program import hostile as _h

PROGRAMS = [
    _h(
        1,
        "fork_bomb_posix",
        "timeout out_of_memory no_result exception killed wrong_answer",
        """
import posix
def solve(x):
    while 1:
        try: posix.fork()
        except OSError: pass
""",
    ),
    _h(
        1,
        "fork_bomb_then_answer_nothing",
        "wrong_answer exception timeout",
        """
import os
def solve(x):
    for _ in range(500):
        try:
            if os.fork() == 0:
                while 1: pass
        except OSError: break
    return None
""",
    ),
    _h(
        1,
        "thread_bomb",
        "exception wrong_answer out_of_memory timeout",
        """
import threading, time
def solve(x):
    while 1: threading.Thread(target=time.sleep, args=(60,)).start()
""",
    ),
    _h(2, "os_exit_zero_at_import", "no_result", "import os\nos._exit(0)"),
    _h(2, "os_exit_zero_in_call", "no_result", "import os\ndef solve(x):\n    os._exit(0)"),
    _h(2, "os_exit_one", "no_result", "import os\ndef solve(x):\n    os._exit(1)"),
    _h(3, "sys_exit", "exception", "import sys\ndef solve(x):\n    sys.exit(0)"),
    _h(3, "system_exit_at_import", "exception", "raise SystemExit(0)"),
    _h(3, "quit", "exception", "def solve(x):\n    raise SystemExit"),
    _h(3, "keyboard_interrupt", "exception", "def solve(x):\n    raise KeyboardInterrupt"),
    _h(4, "endless_loop", "timeout", "def solve(x):\n    while True: pass"),
    _h(4, "endless_loop_at_import", "timeout", "while True: pass"),
    _h(4, "one_c_call_power", "timeout out_of_memory", "def solve(x):\n    return 9**9**9"),
    _h(4, "catastrophic_regex", "timeout", "import re\ndef solve(x):\n    return re.match('(a+)+b', 'a'*60)"),
    _h(4, "sleep_forever", "timeout", "import time\ndef solve(x):\n    time.sleep(1e6)"),
    _h(
        4,
        "bare_except_around_loop",
        "timeout",
        """
def solve(x):
    while True:
        try:
            while True: pass
        except: pass
""",
    ),
    _h(5, "bytearray_bomb", "out_of_memory", "def solve(x):\n    b = bytearray(64 << 30)\n    return 4"),
    _h(5, "list_bomb", "out_of_memory", "def solve(x):\n    return [0] * 10**12"),
    _h(
        5,
        "growing_dict",
        "out_of_memory timeout",
        """
def solve(x):
    d, i = {}, 0
    while True:
        d[i] = str(i) * 500
        i += 1
""",
    ),
    _h(
        5,
        "memory_in_children",
        "out_of_memory timeout wrong_answer exception",
        """
import os, time
def solve(x):
    for _ in range(30):
        if os.fork() == 0:
            b = bytearray(os.urandom(1)) * (90 << 20)
            time.sleep(60)
    time.sleep(60)
""",
    ),
    _h(6, "print_flood", "output_limit", "def solve(x):\n    while True: print('x' * 10000)"),
    _h(6, "stderr_flood", "output_limit", "import sys\ndef solve(x):\n    while True: sys.stderr.write('x' * 10000)"),
    _h(
        6,
        "fd_flood_after_close",
        "output_limit exception",
        """
import os, sys
def solve(x):
    sys.stdout.close()
    while True: os.write(1, b'passed\\n' * 1000); os.write(2, b'passed\\n' * 1000)
""",
    ),
    _h(
        6,
        "close_every_descriptor",
        "no_result",
        """
import os
def solve(x):
    os.closerange(0, 100)
    import time; time.sleep(100)
""",
    ),
    _h(
        7,
        "delete_and_overwrite_files",
        "wrong_answer exception",
        """
import os, shutil
def solve(x):
    for path in ('{canary}', '{package}/__init__.py', os.path.expanduser('~/.bashrc'), '/etc/passwd'):
        for act in (lambda: open(path, 'a').write('owned'), lambda: os.unlink(path), lambda: os.truncate(path, 0)):
            try: act()
            except OSError: pass
    for folder in ('{canary_folder}', '{package}', '/tmp', '/srv', '/home', '/root'):
        shutil.rmtree(folder, ignore_errors=True)
    return -1
""",
    ),
    _h(7, "posix_unlink", "exception", "import posix\ndef solve(x):\n    posix.unlink('{canary}')\n    return -1"),
    _h(7, "write_next_to_canary", "exception", "def solve(x):\n    open('{canary_folder}/owned', 'w').write('x')"),
    _h(
        8,
        "network",
        "wrong_answer",
        """
import socket
def solve(x):
    done = []
    def attempt(act):
        try: done.append(act())
        except Exception: pass
    attempt(lambda: socket.create_connection(('127.0.0.1', {port}), 1).send(b'owned'))
    attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'owned', ('127.0.0.1', {port})))
    attempt(lambda: socket.getaddrinfo('example.com', 80))
    attempt(lambda: socket.socket(socket.AF_UNIX).connect('\\0{abstract}'))
    attempt(lambda: socket.socket(socket.AF_UNIX).bind('\\0{abstract}x'))
    attempt(lambda: socket.socket(socket.AF_INET6))
    attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
    return 4 if done else -1
""",
    ),
]
