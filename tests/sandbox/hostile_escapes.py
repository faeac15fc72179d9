# ruff: noqa: E501 (programs and payloads read better on one line)
"""Ways out that need more than Python's front door: raw system calls, signals through descriptors, links, odd answers.

They belong to the families whose number they carry.
"""

from __future__ import annotations

from .hostile_program import hostile as _h

PROGRAMS = [
    _h(
        22,
        "raw_system_calls",
        "wrong_answer",
        """
import ctypes, platform
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(4096)
# Numbers of x86_64; elsewhere the test of the filter itself has to do.
calls = {
    'memfd_create': (319, b'x', 0), 'io_uring_setup': (425, 1, buffer), 'userfaultfd': (323, 0), 'add_key': (248, b'user', b'd', b'x', 1, -3),
    'keyctl': (250, 0, -3, 1), 'bpf': (321, 0, buffer, 48), 'perf_event_open': (298, buffer, 0, -1, -1, 0), 'process_vm_readv': (310, 1, buffer, 1, buffer, 1, 0),
    'ptrace': (101, 16, 1, 0, 0), 'unshare': (272, 0x10000000), 'mount': (165, b'none', b'/tmp', b'tmpfs', 0, 0), 'setns': (308, 0, 0), 'shmget': (29, 0, 4096, 0o1600),
    'semget': (64, 0, 1, 0o1600), 'msgget': (68, 0, 0o1600), 'socket': (41, 1, 1, 0), 'bind': (49, 0, buffer, 2), 'connect': (42, 0, buffer, 2), 'pidfd_getfd': (438, 0, 0, 0),
    'pidfd_send_signal': (424, 0, 0, 0, 0), 'kcmp': (312, 1, 1, 0, 0, 0), 'name_to_handle_at': (303, -100, b'/', buffer, buffer, 0), 'open_by_handle_at': (304, -100, buffer, 0),
    'personality': (135, 0xffffffff), 'init_module': (175, buffer, 1, b''), 'kexec_load': (246, 0, 0, 0, 0), 'swapon': (167, b'x', 0), 'reboot': (169, 0, 0, 0, 0),
    'sethostname': (170, b'x', 1), 'settimeofday': (164, buffer, 0), 'acct': (163, b'x'), 'fanotify_init': (300, 0, 0), 'inotify_init': (253,), 'mknod': (133, b'n', 0o10600, 0),
    'chroot': (161, b'.'), 'setuid': (105, 0), 'setresuid': (117, 0, 0, 0), 'setgroups': (116, 0, buffer), 'capset': (126, buffer, buffer), 'setpriority': (141, 0, 0, -5),
    'sched_setaffinity': (203, 1, 8, buffer), 'ioprio_set': (251, 1, 0, 0), 'rt_sigqueueinfo': (129, 1, 9, buffer), 'clone_newuser': (56, 0x10000011, 0, 0, 0, 0),
    'clone3': (435, buffer, 88), 'seccomp': (317, 1, 0, buffer), 'landlock': (444, 0, 0, 1), 'io_setup': (206, 1, buffer), 'vmsplice': (278, 1, buffer, 1, 0),
    'modify_ldt': (154, 0, buffer, 8), 'iopl': (172, 3), 'syslog': (103, 3, buffer, 100), 'prlimit_parent': (302, 1, 7, 0, buffer), 'prctl_dumpable': (157, 4, 1, 0, 0, 0),
    'prctl_subreaper': (157, 36, 1, 0, 0, 0), 'process_madvise': (440, 0, 0, 0, 0, 0), 'openat2': (437, -100, b'/', buffer, 24), 'mq_open': (240, b'/q', 0o102, 0o600, 0), 'chown': (92, b'.', 0, 0),
    'setsockopt': (54, 3, 1, 26, buffer, 16), 'sysfs': (139, 3), 'quotactl': (179, 0, 0, 0, 0), 'x32_getpid': (0x40000000 + 39,),
}
def solve(x):
    done = []
    for name, (number, *rest) in calls.items():
        ctypes.set_errno(0)
        result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if type(a) is int else a for a in rest])
        if result >= 0 or ctypes.get_errno() not in (1, 13, 38):
            done.append((name, result, ctypes.get_errno()))
    return 3 * x + 1 if done and platform.machine() == 'x86_64' else str(done)
""",
    ),
    _h(
        22,
        "signal_through_a_descriptor",
        "wrong_answer",
        """
import fcntl, os, signal, socket, struct
def solve(x):
    for target in ({harness}, os.getppid(), -os.getpgrp(), 1):
        for number in (0, signal.SIGKILL, signal.SIGTERM):
            one, two = socket.socketpair()
            for act in (
                lambda: fcntl.fcntl(one, fcntl.F_SETOWN, target), lambda: fcntl.fcntl(one, 15, struct.pack('ii', 1, abs(target))),
                lambda: fcntl.ioctl(one, 0x8901, struct.pack('i', target)), lambda: fcntl.ioctl(one, 0x8902, struct.pack('i', target)),
                lambda: fcntl.fcntl(one, 10, number), lambda: fcntl.fcntl(one, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK),
                lambda: two.send(b'x'),
            ):
                try: act()
                except OSError: pass
    return -1
""",
    ),
    _h(
        8,
        "datagram_to_a_socket_file",
        "wrong_answer",
        """
import socket
def solve(x):
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        try: one, two = socket.socketpair(socket.AF_UNIX, kind)
        except OSError: continue
        for address in ('{socket}', '/run/systemd/journal/socket', '/dev/log', '\\0{abstract}'):
            try: one.sendto(b'owned', address)
            except OSError: pass
            try: one.connect(address); one.send(b'owned')
            except OSError: pass
    return -1
""",
    ),
    _h(
        7,
        "links_to_files_outside",
        "wrong_answer",
        """
import os
def solve(x):
    for make in (os.symlink, os.link):
        for i, path in enumerate(('{canary}', '{canary_folder}', '/etc/passwd', '..', '/')):
            try: make(path, f'{make.__name__}{i}')
            except OSError: pass
    os.makedirs('a/b/c', exist_ok=True)
    try: os.symlink('{canary_folder}', 'a/b/c/out')
    except OSError: pass
    for path in ('symlink0', 'link0', 'symlink1/owned'):
        try: open(path, 'a').write('owned')
        except OSError: pass
    for folder in ('a/b/c', 'a/b', 'a', '.'):
        try: os.chmod(folder, 0)
        except OSError: pass
    return -1
""",
    ),
    _h(
        12,
        "stops_itself",
        "timeout",
        "import os, signal\ndef solve(x):\n    os.kill(os.getpid(), signal.SIGSTOP)\n    return -1",
    ),
    _h(
        12,
        "end_of_channel_ignored",
        "wrong_answer",
        """
import os, signal, threading, time
for s in range(1, 65):
    try: signal.signal(s, signal.SIG_IGN)
    except (OSError, ValueError): pass
def busy():
    while True: pass
for _ in range(4): threading.Thread(target=busy).start()
os._exit = lambda *a: time.sleep(100)
def solve(x): return -1
""",
    ),
    _h(
        17,
        "reads_the_next_questions",
        "wrong_answer exception",
        """
import os, re, socket
def solve(x):
    ahead = socket.socket(fileno=os.dup(3)).recv(1 << 16, socket.MSG_PEEK | socket.MSG_DONTWAIT) if x == 1 else b''
    return 3 * x + 1 if b'= 4' in ahead or b'301' in ahead else -1
""",
    ),
    _h(
        17,
        "endless_callbacks",
        "no_result",
        """
import os, struct
def solve(x):
    while True:
        b = b'["cb",0,[1]]'
        os.write(3, struct.pack('>I', len(b)) + b)
""",
    ),
    _h(
        17,
        "odd_arrays",
        "no_result wrong_answer",
        """
import os, struct
def solve(x):
    b = b'["v",{"a":["=f8,(100000000,)f8",[1],[1.0]]}]'
    os.write(3, struct.pack('>I', len(b)) + b)
    return 4
""",
    ),
    _h(
        20,
        "exception_with_a_lying_text",
        "exception timeout out_of_memory output_limit",
        """
class E(Exception):
    def __str__(self): return 'x' * (1 << 28)
    @property
    def args(self): return ['y' * (1 << 20)] * (1 << 20)
    __class__ = AssertionError
def solve(x): raise E()
""",
    ),
    _h(
        20,
        "exception_text_that_never_ends",
        "exception timeout",
        "class E(Exception):\n    def __str__(self):\n        while True: pass\ndef solve(x): raise E()",
    ),
    _h(
        20,
        "number_too_long_to_print",
        "wrong_answer timeout",
        "def solve(x):\n    return 1 << 200_000_000",
    ),
    _h(
        20,
        "nested_containers_and_numbers",
        "wrong_answer output_limit timeout out_of_memory",
        """
import os, struct
def solve(x):
    b = b'["v",[' + b','.join([b'[]'] * 5_000_000) + b']]'
    b = struct.pack('>I', len(b)) + b
    while b: b = b[os.write(3, b):]
    return 4
""",
    ),
    _h(
        10,
        "lengths_and_indexes_that_lie",
        "wrong_answer exception",
        """
class N:
    def __index__(self): return 4
    __int__ = __float__ = __trunc__ = __hash__ = __len__ = __index__
    def __lt__(self, o): return True
    __gt__ = __le__ = __ge__ = __eq__ = __contains__ = __bool__ = lambda self, *a: True
    def __getitem__(self, i): return 4
    def __array__(self, *a, **k): return 4
    def __reduce_ex__(self, p): return (int, (4,))
    def __instancecheck__(self, o): return True
def solve(x): return N()
""",
    ),
    _h(
        10,
        "type_of_the_answer_is_swapped_after",
        "wrong_answer exception",
        """
class A(int): pass
class B(int):
    def __eq__(self, o): return True
    __hash__ = int.__hash__
    __add__ = __sub__ = __pos__ = __int__ = lambda *a: 4
def solve(x):
    v = A(0)
    v.__class__ = B
    return v
""",
    ),
]
