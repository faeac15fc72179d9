# ruff: noqa: E501 (programs and payloads read better on one line)
"""All hostile programs by family, and the harmless leftovers (family 25) that must pass."""

from __future__ import annotations

from .hostile_escapes import PROGRAMS as ESCAPES
from .hostile_forgeries import PROGRAMS as FORGERIES
from .hostile_program import CHECKED, PROBLEM, RIGHT, Hostile
from .hostile_resources import PROGRAMS as RESOURCES

PROGRAMS = [*RESOURCES, *FORGERIES, *ESCAPES]

_LEFTOVERS = {
    "prints": "print('hello')\ndef solve(x):\n    print('debug', x)\n    return 3 * x + 1",
    "main_block": RIGHT + "if __name__ == '__main__':\n    import sys\n    print(solve(int(input())))\n    sys.exit(3)",
    "unused_thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n" + RIGHT,
    "thread_pool": "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(2)\n"
    "def solve(x):\n    return pool.submit(lambda: 3 * x + 1).result()",
    "surrogate_print": "def solve(x):\n    print('\\ud800')\n    return 3 * x + 1",
    "windows_line_ends": RIGHT.replace("\n", "\r\n"),
    "byte_order_mark": "\ufeff" + RIGHT,
    "homoglyph_name": "def ѕolve(x):\n    return 0\n" + RIGHT,
    "temporary_file": "import tempfile\ndef solve(x):\n    with tempfile.NamedTemporaryFile('w+') as f:\n"
    "        f.write(str(3 * x + 1)); f.seek(0)\n        return int(f.read())",
    "atexit": "import atexit\natexit.register(print, 'bye')\n" + RIGHT,
    "warnings": "import warnings\nwarnings.warn('old')\n" + RIGHT,
    "dataclass": "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
    "def solve(x):\n    return P(3 * x + 1).x",
    "dataclass_with_a_class_variable": "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
    "@dataclass\nclass P:\n    n: ClassVar[int] = 1\n    x: int\ndef solve(x):\n    return P(3 * x + 1).x",
    "pickled_class_of_its_own": "import pickle\nclass P:\n    def __init__(self, x): self.x = x\n"
    "def solve(x):\n    return pickle.loads(pickle.dumps(P(3 * x + 1))).x",
    "type_hints_and_its_own_module": "from __future__ import annotations\nimport sys, typing\nclass P:\n    x: Q\nclass Q: pass\n"
    "def triple(x): return 3 * x\n"
    "def solve(x):\n    assert typing.get_type_hints(P) == {'x': Q}\n    return getattr(sys.modules[__name__], 'triple')(x) + 1",
    "asyncio": "import asyncio\nasync def go(x):\n    await asyncio.sleep(0)\n    return 3 * x + 1\n"
    "def solve(x):\n    return asyncio.run(go(x))",
    "true_integer_subclass": "class I(int): pass\ndef solve(x):\n    return I(3 * x + 1)",
    "lru_cache": "from functools import lru_cache\n@lru_cache(None)\ndef solve(x):\n    return 3 * x + 1",
}  # fmt: skip
LEFTOVERS = [Hostile(25, name, code, ("passed",)) for name, code in _LEFTOVERS.items()]

__all__ = ["CHECKED", "LEFTOVERS", "PROBLEM", "PROGRAMS", "RIGHT", "Hostile"]
