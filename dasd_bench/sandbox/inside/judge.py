"""Runs a problem's tests against a program it cannot see. Holds expected values, never the program.

The tests run here as they are written, except that names which they use and do not define, first of all the function
under test, are :mod:`proxies <dasd_bench.sandbox.inside.proxy>`. Their comparisons work on values rebuilt from plain
data, so what decides is the equality of built-in types and of the tests' own classes.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import gc
import importlib
import json
import os
import random
import resource
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

from .changes import changes_may_decide
from .flow import questions_use_answers
from .names import module_names
from .proxy import CannotCross, RemoteName, Session
from .sight import tests_see_objects
from .zygote import FRAME_BYTES

#: Sequence number, wall seconds, CPU seconds, key of the problem, bytes of JSON, way of judging.
HEADER = struct.Struct(">IddqIB")
#: Ways of judging: the program works on copies; on the tests' own objects; the tests run in the program's process.
COPIES, SHARED, PLAIN = range(3)
#: Ends a judge that used up its CPU seconds on what a program returned: it may be deep inside one call of C.
OVERTIME = signal.SIGPROF
#: Below what a socket holds unread, or both sides could wait for each other.
_AHEAD_BYTES = 32 << 10
#: What a program may have sent before memory is collected for the next one.
_MUCH_HEARD = 4 << 20
_SHORT_DEPTH = 3
_MISSING = "the tests need a package that is not installed ({})"
_SETUP, _TESTS = "<setup>", "<tests>"
_STATEMENT_CALL, _VALUE_OF = "__call_in_place__", "__value_of__"
_BUILTINS = frozenset(dir(builtins))


_FIELDS = ("kind", "prompt", "entry_point", "tests", "test", "imports", "setup")


def encode_job(problem: Any) -> bytes:
    """A job's body: the problem travels once, later jobs name it by its key alone."""
    return b"" if problem is None else json.dumps({name: getattr(problem, name) for name in _FIELDS}).encode("ascii")


def texts(problem: Any) -> list[str]:
    """The texts that :func:`encode_job` sends."""
    fields = [getattr(problem, name) for name in _FIELDS if name != "tests"]
    return [*fields, *problem.tests]


class Unusable(Exception):  # noqa: N818
    """The problem's tests cannot be run here; the message says why."""


class Tests:
    """A problem made ready: compiled code, the names it takes from the program, classes that may cross. (No dataclass:
    importing those takes longer than all else that this process does before its first job.)"""

    def __init__(
        self, setup: Any, code: Any, remote: list[str], modules: list[str], entry: str | None, imports: str,
        classes: dict[str, str], sent_ahead: bool, text: str, sees_objects: bool, wants_changes: bool,
    ) -> None:  # fmt: skip
        self.setup = setup
        self.code = code
        self.remote = remote
        self.modules = modules
        self.entry = entry
        self.imports = imports
        self.classes = classes
        self.text = text
        #: Whether the tests could tell a program that changes its arguments: they then decide in its process, too.
        self.sees_objects = sees_objects
        #: Whether a program that fails on copies may pass on the tests' own objects.
        self.wants_changes = wants_changes
        #: Whether an argument may come from an earlier answer.
        self.questions_use_answers = not sent_ahead
        #: The calls of a passing run, None before the first, empty where they may differ from program to program.
        self.ahead: list[bytes] | None = None if sent_ahead else []
        #: The answers of that run. The tests are a function of the answers, so the same answers pass again.
        self.answers: list[bytes] = []


def prepare(problem: dict[str, Any]) -> Tests:
    """Parses a problem once. Raises Unusable when its tests are no Python or test nothing."""
    humaneval = problem["kind"] == "humaneval"
    if humaneval:
        setup_text = _complete(problem["prompt"])
        text = "\n".join([problem["setup"], problem["test"]])
    else:
        setup_text = problem["imports"]
        text = "\n".join([problem["setup"], *problem["tests"], problem["test"]])
    try:
        setup, tree = ast.parse(setup_text), ast.parse(text)
        bound, used = module_names(text)
        bound |= module_names(setup_text)[0]
    except (SyntaxError, ValueError) as error:
        raise Unusable(f"the tests are not valid Python ({error})") from None
    entry = problem["entry_point"]
    if humaneval and not any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in tree.body):
        raise Unusable("the test defines no function check(candidate)")
    free = used - bound - _BUILTINS
    modules = sorted(name for name in free if name in sys.stdlib_module_names and name != entry)
    remote = sorted((free - set(modules)) | {entry})
    statements = list(_statements(tree))
    sent_ahead = not questions_use_answers(text, tree, statements, {*remote, "candidate"})
    sees_objects = tests_see_objects(text, tree, {*remote, "candidate"})
    wants_changes = sees_objects and changes_may_decide(tree, {*remote, "candidate"})
    _mark_calls_in_place(statements, {*remote, "candidate"})
    if len(remote) > 1:
        tree = ast.fix_missing_locations(_Values(set(remote) - {entry}).visit(tree))
    classes = {node.name: _shareable(node) for node in statements if isinstance(node, ast.ClassDef)}
    for node in setup.body:
        if isinstance(node, ast.ClassDef):
            classes.setdefault(node.name, "")
    imports = "\n".join(ast.unparse(node) for node in (*setup.body, *tree.body) if _standard_import(node))
    return Tests(
        compile(setup, _SETUP, "exec", dont_inherit=True),
        compile(tree, _TESTS, "exec", dont_inherit=True),
        remote, modules, entry if humaneval else None, imports if not humaneval or classes else "", classes, sent_ahead,
        text if humaneval else f"{setup_text}\n{text}", sees_objects, wants_changes,
    )  # fmt: skip


def _complete(prompt: str) -> str:
    """A HumanEval prompt as a module: it ends in a function that may still lack its body."""
    try:
        ast.parse(prompt)
    except SyntaxError:
        return prompt + "\n    pass\n"
    return prompt


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Every statement below a node. Expressions, of which there are far more, hold none."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, name, ()):
            if isinstance(child, ast.stmt):
                yield child
            yield from _statements(child)


def _shareable(node: ast.ClassDef) -> str:
    """A class of the tests as a program may see it once it is handed an instance: without texts about it, and as a mere
    name where it holds any constant, which might be an expected value."""
    copy = ast.parse(ast.unparse(node))
    for part in ast.walk(copy):
        if isinstance(part, (ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(part) is not None:
            part.body = part.body[1:] or [ast.Pass()]
    constants = (part.value for part in ast.walk(copy) if isinstance(part, ast.Constant))
    if any(value not in (None, True, False, 0, "") for value in constants):
        return f"class {node.name}: pass"
    return ast.unparse(ast.fix_missing_locations(copy))


def _standard_import(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import):
        return all(alias.name.split(".")[0] in sys.stdlib_module_names for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in sys.stdlib_module_names and node.level == 0
    return False


def _mark_calls_in_place(statements: list[ast.stmt], names: set[str]) -> None:
    """Marks calls whose value is dropped: there the program's changes to the arguments are the result."""
    for node in statements:
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in names:
            function = ast.copy_location(ast.Name(_STATEMENT_CALL, ast.Load()), call.func)
            call.func, call.args = function, [call.func, *call.args]


class _Values(ast.NodeTransformer):
    """Has the tests read what the program's globals hold where they name them other than to call or look into them."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def visit_Call(self, node: ast.Call) -> ast.AST:
        return self._inside(node, node.func)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return self._inside(node, node.value)

    def _inside(self, node: ast.AST, named: ast.expr) -> ast.AST:
        for name, value in ast.iter_fields(node):
            if value is named and isinstance(named, ast.Name):
                continue
            if isinstance(value, list):
                setattr(node, name, [self.visit(part) for part in value])
            elif isinstance(value, ast.AST):
                setattr(node, name, self.visit(value))
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in self._names or not isinstance(node.ctx, ast.Load):
            return node
        return ast.copy_location(ast.Call(ast.Name(_VALUE_OF, ast.Load()), [node], []), node)


def run(tests: Tests, session: Session) -> tuple[str, str]:
    """The outcome and a sentence on it. Nothing the program does can make this return ``passed`` early: that takes
    the tests' last statement to have run, with every call answered."""
    random.seed(0)
    try:
        if session.shares:
            session.share()
        if tests.imports or tests.classes:
            session.hello(tests.imports)
        session.send_ahead()
        if tests.answers and not session.shares and session.repeats(tests.answers):
            return "passed", ""
        bind(tests, session)
        session.wait_ready()
        exec(tests.code, session.space)
        if tests.entry is not None:
            session.space["check"](session.space[tests.entry])
    except BaseException as error:
        if session.ended:
            return session.ended.outcome, session.ended.detail
        return _failure(error, tests, session)
    if session.ended:
        return session.ended.outcome, session.ended.detail
    if session.unfit:
        return _unfit(session.unfit, tests, session)
    if session.calls == 0:
        return "unusable", "the tests never called the function under test"
    return "passed", ""


def _unfit(what: BaseException, tests: Tests, session: Session) -> tuple[str, str]:
    """Tests that pass what cannot cross are at fault, unless it may be an answer that they pass back."""
    if session.replies and tests.questions_use_answers:
        return "wrong_answer", f"the tests could not send a returned value back: {what}"
    return "unusable", f"the tests pass {what}"


def _failure(error: BaseException, tests: Tests, session: Session) -> tuple[str, str]:
    if session.unfit or isinstance(error, CannotCross):
        return _unfit(session.unfit or error, tests, session)
    if isinstance(error, Unusable):
        return "unusable", str(error)
    if error is session.last_error:
        text = error.__dict__.get("_dasd_text", "")
        return ("out_of_memory" if isinstance(error, MemoryError) else "exception"), text
    if isinstance(error, ImportError) and _is_of_an_import(error):
        return "unusable", _MISSING.format(error)
    if isinstance(error, AssertionError):
        return (
            "wrong_answer",
            f"{_brief(error) or 'an assertion failed'}; last value returned: {_short(session.last_value)}",
        )
    return (
        "wrong_answer",
        f"the tests could not use {_short(session.last_value)} ({type(error).__name__}: {_brief(error)})",
    )


def _is_of_an_import(error: ImportError) -> bool:
    """Whether an import statement of the tests raised it: below their own code there is only a module that is being
    run, if anything (the interpreter leaves the frames of its import machinery out)."""
    below: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        below = [] if code.co_filename in (_SETUP, _TESTS) else [*below, code.co_name]
        trace = trace.tb_next
    return below[:1] in ([], ["<module>"])


def _brief(error: BaseException) -> str:
    try:
        return str(error)[:200]
    except Exception:
        return ""


def _short(value: Any, depth: int = _SHORT_DEPTH) -> str:
    """A value in at most some 80 characters, whatever its size and depth."""
    if type(value) in (str, bytes, bytearray):
        return repr(value[:80])
    if type(value) is int:
        return str(value) if value.bit_length() < 256 else f"an integer of {value.bit_length()} bits"
    if type(value) in (list, tuple):
        parts = ", ".join(_short(v, depth - 1)[:20] for v in value[:4]) if depth else "..."
        return f"{type(value).__name__} of {len(value)}: {parts}"
    if isinstance(value, (float, bool, type(None))):
        return repr(value)
    return f"a value of type {type(value).__name__}"


def bind(tests: Tests, session: Session) -> None:
    """Fills the namespace in which the tests run."""
    space = session.space
    space.update({"__name__": "tests", "__builtins__": builtins})
    exec(tests.setup, space)
    for name in tests.modules:
        try:
            space[name] = importlib.import_module(name)
        except ImportError as error:
            raise Unusable(_MISSING.format(error)) from None
    for name in tests.remote:
        space[name] = RemoteName(session, name)

    def call_in_place(target: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(target, RemoteName):
            return session.call(target._name, args, kwargs, True)
        return target(*args, **kwargs)

    space[_STATEMENT_CALL] = call_in_place
    space[_VALUE_OF] = lambda name: session.value_of(name) if isinstance(name, RemoteName) else name


def judge(tests: Tests, channel: socket.socket, wall: float) -> tuple[str, str]:
    """Runs one program's tests over ``channel``."""
    first = tests.ahead is None
    session = Session(channel, FRAME_BYTES, wall, tests.classes, tests.ahead or [], records=first)
    try:
        outcome, detail = run(tests, session)
        if outcome == "retry":
            tests.ahead, tests.answers = [], []
        elif outcome == "passed" and first:
            log = session.log or []
            tests.ahead = log if sum(map(len, log)) < _AHEAD_BYTES else []
            tests.answers = (session.heard or []) if tests.ahead else []
    except BaseException as error:  # an answer that not even a sentence can be made of
        outcome, detail = "wrong_answer", f"the tests could not use what was returned ({type(error).__name__})"
    much = session.heard_bytes > _MUCH_HEARD
    session.close()
    if much:
        gc.collect()
    return outcome, detail


def judge_shared(tests: Tests, channel: socket.socket, wall: float) -> tuple[str, str]:
    """Runs the tests of a program that has failed on copies once more, on objects that it shares with them."""
    session = Session(channel, FRAME_BYTES, wall, tests.classes, [], shares=True)
    try:
        return run(tests, session)
    except BaseException as error:
        return "wrong_answer", f"the tests could not use what was returned ({type(error).__name__})"
    finally:
        session.close()
        gc.collect()


def judge_plain(tests: Tests, channel: socket.socket, wall: float) -> tuple[str, str]:
    """What a program that passed does in one process with the tests: ``wrong_answer`` where they fail there. It has the
    tests now, so whatever else it says changes nothing."""
    session = Session(channel, FRAME_BYTES, wall, tests.classes, [])
    try:
        if tests.imports or tests.classes:
            session.hello(tests.imports)
        said = session.plain(tests.modules, tests.text, tests.entry, len(tests.remote) > 1)
        if said[0] == "failed":
            return "wrong_answer", f"passes only because its arguments and answers are copied: {str(said[1])[:200]}"
    except BaseException:
        return "passed", ""
    finally:
        session.close()
    return "passed", ""


def strict_allclose() -> None:
    """``numpy.allclose`` calls an empty list close to any number, and one number close to a list of them: a program
    returning ``[]`` would pass. Within the judge, values of different shapes are not close."""
    import numpy

    original = numpy.allclose

    def allclose(a: Any, b: Any, *args: Any, **kwargs: Any) -> bool:
        return numpy.shape(a) == numpy.shape(b) and bool(original(a, b, *args, **kwargs))

    numpy.allclose = allclose


def main(descriptor: int, memory: int, packages: str) -> None:
    """Serves until the control socket closes."""
    control = socket.socket(fileno=descriptor)
    os.environ.clear()
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LANG": "C.UTF-8"})
    if packages:
        sys.path.append(packages)
    confine(memory)
    cache: dict[int, Tests | Unusable] = {}
    have_numpy = False
    gc.freeze()
    while True:
        header, descriptors, _, _ = socket.recv_fds(control, HEADER.size, 1)
        if len(header) < HEADER.size:
            return
        seq, wall, cpu, key, size, way = HEADER.unpack(header)
        if size:
            problem = json.loads(_exactly(control, size))
            try:
                cache[key] = prepare(problem)
            except Unusable as error:
                cache[key] = error
            if not have_numpy and "numpy" in problem["test"]:
                have_numpy = True
                with contextlib.suppress(ImportError):
                    strict_allclose()
        with socket.socket(fileno=descriptors[0]) as channel:
            tests = cache[key]
            if isinstance(tests, Unusable):
                outcome, detail = "unusable", str(tests)
            else:
                signal.setitimer(signal.ITIMER_PROF, cpu)
                outcome, detail = (judge, judge_shared, judge_plain)[way](tests, channel, wall)
        left, _ = signal.setitimer(signal.ITIMER_PROF, 0)
        used = max(0.0, cpu - left) if left else 0.0
        verdict = {"seq": seq, "outcome": outcome, "detail": detail, "cpu": used, "next": _next(tests, way, outcome)}
        body = json.dumps(verdict).encode()
        control.sendall(struct.pack(">I", len(body)) + body)


def _next(tests: Tests | Unusable, way: int, outcome: str) -> int:
    """The way in which the program has yet to be judged, COPIES for none."""
    if isinstance(tests, Unusable) or way == PLAIN:
        return COPIES
    if outcome == "passed":
        return PLAIN if tests.sees_objects else COPIES
    return SHARED if way == COPIES and tests.wants_changes and outcome in ("wrong_answer", "exception") else COPIES


def confine(memory: int) -> None:
    """Limits for the judge itself: memory, no core files, no new privileges, no writing, no network, no processes."""
    for kind, limit in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        try:
            resource.setrlimit(kind, (limit, limit))
        except ValueError:
            continue
    if sys.platform != "linux":
        return
    from . import kernel, seccomp

    kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if kernel.landlock_abi():
        rules = kernel.landlock_rules(["/"], [])
        kernel.landlock(rules)
        os.close(rules)
    if kernel.supported():
        kernel.Filter(seccomp.program(own_pid=os.getpid(), forks=False, messages=True)).install()


def _exactly(sock: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        data = sock.recv(min(size, 1 << 20))
        if not data:
            sys.exit(0)
        parts.append(data)
        size -= len(data)
    return b"".join(parts)
