"""Cases of ``benchmarks/faults.py`` that begin with a folder: odd plugins, damaged models, damaged stores."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from pathlib import Path

from benchmarks.fault_command import Outcome, command, fault_of
from tests.store.damage import damage, damage_some
from tests.store.test_damage import KilledError, Work, stored

MODEL = "model"
"""Name of the tiny model beside the cases' run."""

# --- plugins ----------------------------------------------------------------------------------------------------------

HEAD = "from dasd_bench.api import *\nimport dasd_bench.api as api\n"
AT_IMPORT = (
    "raise SystemExit(0)", "raise SystemExit('bye')", "raise KeyboardInterrupt", "raise GeneratorExit",
    "raise StopIteration", "import sys; sys.exit(3)", "raise MemoryError", "raise RecursionError", "1 / 0",
    "def f(): f()\nf()", "import no_such_package", "from dasd_bench.api import no_such_name", "from . import nowhere",
    "raise BaseExceptionGroup('x', [KeyboardInterrupt()])", "class E(BaseException): pass\nraise E",
    "class E(Exception):\n    def __str__(self): 1 / 0\nraise E",
    "raise ValueError('\\udcff')", "raise ValueError('x' * 10**6)",
    "raise ValueError('a\\nb\\x1b[31m\\0')", "raise OSError(28, 'No space left on device')", "def f(:", "x = '",
    "\0", "\xff", "async def f(): return await", "return 1", "\tx = 1\n  y = 2", "print('{\"event\": 1}')",
    "assert False", "assert ()", "raise ImportError(None)", "raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'odd')",
    "import os; os.chdir('/')", "import warnings; warnings.warn('careful')", "del __name__", "__file__ = None",
    "open('/nowhere/x')", "raise BrokenPipeError", "raise TimeoutError('late')", "breakpoint = None\nraise EOFError",
)  # fmt: skip
NAMES = (
    "None", "5", "''", "'a/b'", "'../x'", "'" + "x" * 300 + "'", "'base'", "'sft'", "'é'", "' a'", "'a b'", "'a\\n'",
    "'a+b'", "'a@1'", "'a*b'", "'A,B'", "'-x'", "b'odd'", "['odd']", "'\\0'", "'all'", "object()",
    "property(lambda s: 1)",
)  # fmt: skip
FIELDS = (
    "tau: float = 'x'", "tau: float = None", "tau: list = []", "tau: 'NoSuchType' = 1", "tau: float",
    "x: int = option(5, minimum=9)",
    "x: dict = option({})", "x: str = option('a', choices=('b',))", "summary = None", "summary = 5", "notes = 5",
    "notes = ('a',)", "needs = 3", "version = 'x'", "make_targets = None", "select = 5", "online_weights = 'x'",
    "def __init__(self): raise SystemExit(0)", "def __post_init__(self): 1 / 0", "def __init_subclass__(cls): 1 / 0",
    "def __getattribute__(self, name): raise KeyboardInterrupt", "__slots__ = ('tau',)", "__doc__ = 5", "card = 5",
    "card = {'lr': 'x'}", "scope = 'planet'", "denominator = []", "requires = None", "lacking = 5", "token_loss = 5",
)  # fmt: skip
"""Lines of the body of a method."""


def plugin(rng: random.Random, folder: Path) -> Outcome:
    """A plugin file that cannot be used, beside one that can."""
    plugins = folder / "plugins"
    plugins.mkdir()
    sound = (
        "class Sound(Method):\n    name = 'sound'\n    def make_targets(self, examples, context):\n        return []\n"
    )
    (plugins / "sound.py").write_text(HEAD + sound)
    shape = rng.random()
    if shape < 0.45:
        what = rng.choice(AT_IMPORT)
        text = f"{HEAD}{what}\nclass Odd(Method):\n    name = 'odd'\n    def make_targets(self, e, c): return []\n"
    elif shape < 0.65:
        what = f"name = {rng.choice(NAMES)}"
        text = f"{HEAD}class Odd(Method):\n    {what}\n    def make_targets(self, examples, context): return []\n"
    else:
        what = rng.choice(FIELDS)
        body = f"    name = 'odd'\n    def make_targets(self, examples, context): return []\n    {what}\n"
        text = f"from dataclasses import dataclass\n{HEAD}@dataclass\nclass Odd(Method):\n{body}"
    if rng.random() < 0.2:
        path = plugins / "odd" / "task.py"
        text = text.replace("Method", "Task")
    else:
        path = plugins / rng.choice(
            ["odd.py", "with space.py", "é.py", "import.py", "0.py", "json.py", "x" * 200 + ".py"]
        )
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode("latin-1" if "\xff" in text else "utf-8", "surrogatepass"))
    verb = rng.choice(["list", "list json", "show", "run"])
    lines = {
        "list": ("list", "methods", "--plugins", str(plugins)),
        "list json": ("list", "methods", "--json", "--plugins", str(plugins)),
        "show": ("show", rng.choice(["odd", "sound", "sft"]), "--plugins", str(plugins)),
        "run": ("run", "--dry-run", "--offline", "--model", "./no-such-model", "--tasks", "mini_gsm", "--method",
                rng.choice(["odd", "sound", "sound,odd", "sft"]), "--plugins", str(plugins)),
    }  # fmt: skip
    result = command(*lines[verb])
    fault = fault_of(result)
    claimed = "claimed by both" in result[2]  # one name for two plugins is an error whatever is asked
    if not fault and verb.startswith("list") and not claimed and (result[0] != 0 or "sound" not in result[1]):
        fault = "lost"
    if not fault and verb == "list json" and not all(_is_json(line) for line in result[1].splitlines()):
        fault = "unexpected"
    return Outcome("plugin", f"{verb}: {path.name[:20]} {what[:60]!r}", fault, result[2])


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict) and json.loads(line) != {"event": 1}
    except ValueError:
        return False


# --- model folders ----------------------------------------------------------------------------------------------------

VALUES = (None, [], {}, "", "x", -1, 0, 1.5, 10**30, True, [[1]], {"a": {}}, "\ud835", "x" * 10_000, "../../x", 1e308)
TEXTS = (b"", b"{", b"[]", b"null", b"3", b"\xff\xfe\0", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b'"x"')
TEMPLATES = (
    "", " ", "{{", "{% for %}", "{{ messages[9].content }}", "{{ raise_exception('no') }}", "{% include 'x' %}",
    "{{ 1 // 0 }}",
    "{% for m in messages %}{{ m.content[:3] }}{% endfor %}", "{% for m in messages %}{{ m.role }}{% endfor %}",
    "{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}",
    "{% for m in messages %}{{ m.content | upper }}{{ eos_token }}{% endfor %}", "{{ messages }}",
    "{{ namespace.__init__ }}",
    "{% set x = 'a' * 10**9 %}{{ x }}", "{% for i in range(10**9) %}{% endfor %}", "{{ ''.__class__.__mro__ }}",
    "{% for m in messages %}{{ m.content | trim }}{% endfor %}", "{{ tools | tojson }}", "{{ strftime_now('%Q') }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% generation %}x{% endgeneration %}", "\udcff", "hello",
)  # fmt: skip


def model_folder(rng: random.Random, folder: Path) -> Outcome:
    """A model folder with one file that is damaged, missing or holds an odd value; only a plan is asked for."""
    source = (folder / MODEL).resolve()
    model = folder / "odd-model"
    model.mkdir()
    for path in source.iterdir():
        (model / path.name).symlink_to(path)
    names = ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja",
             "model.safetensors"]  # fmt: skip
    path = model / rng.choice([name for name in names if (model / name).exists()])
    text = path.read_bytes()
    path.unlink()
    shape, refused = rng.random(), False
    if path.suffix == ".jinja":
        path.write_bytes((what := rng.choice(TEMPLATES)).encode("utf-8", "surrogateescape"))
    elif shape < 0.3 or path.suffix == ".safetensors":
        what = rng.choice(["cut", "empty", "delete", "folder", "dangling", "flip"])
        path.write_bytes(text)
        if what != "delete":
            damage(path, what, folder / "outside", rng)
        else:
            path.unlink()
        refused = path.name in ("config.json", "tokenizer.json", "model.safetensors") and what in ("folder", "dangling")
    elif shape < 0.45:
        path.write_bytes(garbage := rng.choice(TEXTS))
        what, refused = repr(garbage[:20]), True
    else:
        value = json.loads(text)
        what = _changed(rng, value)
        path.write_text(json.dumps(value))
    places = ("--store", str(folder / "store"), "--output", str(folder / "out"))
    small = ("--tasks", "mini_gsm", "--method", "sft", "--train-limit", "4", "--limit", "4")
    result = command("run", "--dry-run", "--offline", "--model", str(model), *small, *places)
    return Outcome("model folder", f"{path.name}: {what[:60]}", fault_of(result, refused=refused), result[2])


def _changed(rng: random.Random, value: dict[str, object]) -> str:
    """Gives one key of an object, or of an object within it, an odd value, or takes it away."""
    inner = value
    while (nested := [v for v in inner.values() if isinstance(v, dict) and v]) and rng.random() < 0.6:
        inner = rng.choice(nested)
    key = rng.choice(sorted(inner))
    if rng.random() < 0.2:
        del inner[key]
        return f"{key} is missing"
    inner[key] = rng.choice(VALUES)
    return f"{key} = {str(inner[key])[:30]!a}"


# --- stores -----------------------------------------------------------------------------------------------------------


def store(rng: random.Random, folder: Path) -> Outcome:
    """A store that was killed half-way, or finished, and then damaged: the next run gives the bytes of a sound one."""
    right = Work(folder / "right")
    expected = right.run(), stored(folder / "right")
    outside = folder / "outside"
    outside.write_text("not ours")
    root = folder / "store"
    killed = rng.randint(-1, 6)
    with contextlib.suppress(KilledError):
        Work(root, killed).run()
    done = "; ".join(damage_some(root, rng.randint(1, 5), outside, rng))
    try:
        found = Work(root).run(), stored(root)
    except BaseException as error:
        return Outcome("store", done, "unexpected", repr(error))
    fault = "" if found == expected else "silent"
    if outside.read_text() != "not ours" or outside.with_name("nowhere").exists():
        fault = "lost"
    shutil.rmtree(root)
    return Outcome("store", f"killed at {killed}: {done}", fault, "")
