"""Beside the model-written code: defines its functions, then answers the judge's calls with plain data.

Nothing here is a defence. The code that runs in this process may rewrite all of it, and gains only what it could
have returned anyway: every answer is data that the judge rebuilds and compares. What is done here is for honest
programs: patched builtins, printing, generators, objects and exceptions should work as in a single process.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import random
import re
import resource
import sys
import types
from collections import deque
from collections.abc import Callable
from typing import Any

from .shared import PROGRAM, Shared, SharingDecoder, SharingEncoder
from .wire import Channel, Decoder, Encoder, Gone, TooLarge, WireError

# A program that replaces len() or isinstance() must not break the answers to its own calls.
globals().update({name: value for name, value in vars(builtins).items() if not name.startswith("_")})

MODULE = "solution"
_BUILTIN_ERRORS = {
    value: name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}
_PLAIN_BASES = frozenset({int, float, str, list, tuple, dict, set, frozenset, deque, bytes, bytearray})
#: What has no identity that a test could ask for.
_VALUES = frozenset({type(None), bool, int})
_NAMELESS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, type)


def _is_short_of_memory() -> bool:
    unit = 1 if sys.platform == "darwin" else 1024
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return limit > 0 and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit > limit / 2


class CallbackError(Exception):
    """A function of the tests raised while the program called it."""


class Guest:
    """One program and its channel: ``load`` runs the source, ``serve`` answers until the judge hangs up. Made before
    the fork, so that the child finds everything ready."""

    def __init__(self, descriptor: int, frame_bytes: int) -> None:
        self._channel = Channel(descriptor, frame_bytes)
        self._frame_bytes = frame_bytes
        self._builders: dict[str, Callable[[Any], Any]] = {
            "h": self._handle,
            "f": self._callback,
            "o": self._object,
            "it": iter,
        }
        self._encoder: Encoder = Encoder(self._special, frame_bytes, functions=False)
        self._decoder = Decoder(self._builders)
        self._handles: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._classes: dict[str, Any] = {}
        self._class_names: set[str] = set()
        self._shared: dict[str, Any] = {"__name__": MODULE}
        self._module = types.ModuleType(MODULE)
        self._space = self._module.__dict__

    def install(self) -> None:
        """Makes the program's module the one that is found under its name: dataclasses, pickle and typing look there.
        Done once, before the fork: in the child it would cost a page."""
        sys.modules[MODULE] = self._module

    def load(self, source: bytes | bytearray) -> None:
        """Compiles and runs the program; tells the judge how that went."""
        filename = f"<{MODULE}>"
        try:
            try:
                text = source.decode("utf-8", "surrogatepass").removeprefix("\ufeff")
                code = compile(text, filename, "exec", dont_inherit=True)
            except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
                if isinstance(error, MemoryError) and _is_short_of_memory():
                    raise  # the parser says MemoryError of too deep a nesting, too
                self._send(["syntax", f"{type(error).__name__}: {error}"[:500]])
                return
            exec(code, self._space)
        except BaseException as error:
            self._send(self._failure(error))
            return
        self._send(["ready"])

    def serve(self) -> None:
        while True:
            try:
                self.step()
            except Gone:
                return

    def step(self) -> None:
        """Answers one message. Raises Gone."""
        self._answer(self._decoder.message(self._channel.receive()))

    def _answer(self, message: list[Any]) -> None:
        try:
            op, *rest = message
            if op == "call":
                target, args, kwargs, with_args = rest
                value = self._target(target)(*args, **kwargs)
                passed = [*args, *kwargs.values()]
                if isinstance(self._encoder, SharingEncoder):
                    reply = ["v", value]
                elif value is None or with_args:
                    reply = ["v", value, passed]
                elif type(value) not in _VALUES and any(value is part for part in passed):
                    reply = ["v", value, next(i for i, part in enumerate(passed) if part is value)]
                else:
                    reply = ["v", value]
            elif op == "next":
                try:
                    reply = ["v", next(self._handles[rest[0]])]
                except StopIteration:
                    reply = ["stop"]
            elif op == "hello":
                self._hello(*rest)
                return
            elif op == "share":
                shared = Shared(PROGRAM)
                self._encoder = SharingEncoder(self._special, self._frame_bytes, False, shared)
                self._decoder = SharingDecoder(self._builders, shared)
                return
            elif op == "sync":  # reading it has done it
                return
            elif op == "plain":
                reply = ["plain", *self._plain(*rest)]
            elif op == "class":
                self._class(*rest)
                return
            else:
                reply = ["v", self._operate(op, *rest)]
            self._encoder.start()
            frame = self._encoder.frame([reply[0], *map(self._encoder.pack, reply[1:])])
        except TooLarge as error:
            frame = self._encoder.frame(["large", str(error)])
        except WireError as error:
            frame = self._encoder.frame(["opaque", str(error)])
        except BaseException as error:
            self._send(self._failure(error))
            return
        self._sync()
        self._channel.send(frame)

    def _sync(self) -> None:
        """Brings the judge's side up to date where the two share objects."""
        if isinstance(self._encoder, SharingEncoder):
            with contextlib.suppress(WireError):
                self._channel.send(self._encoder.frame(["sync", self._encoder.objects()]))

    def _operate(self, op: str, target: Any, *rest: Any) -> Any:
        thing = self._target(target)
        if op == "value":
            return thing
        if op == "get":
            return getattr(thing, rest[0])
        if op == "set":
            return setattr(thing, rest[0], rest[1])
        if op == "item":
            return thing[rest[0]]
        if op == "len":
            return len(thing)
        return iter(thing)

    def _hello(self, imports: str, classes: list[str]) -> None:
        """Imports that the tests make, and names of their classes, whose instances may cross."""
        for statement in imports.splitlines():
            try:
                exec(statement, self._shared)
            except ImportError:
                continue
        for name, value in self._shared.items():
            self._space.setdefault(name, value)
        self._class_names.update(classes)

    def _plain(self, modules: list[str], text: str, entry: str | None, in_module: bool) -> tuple[str, str]:
        """Runs the tests of a program that has passed them in the judge here, too, in one process with it: whether they
        fail, and how. Only the tests' own failing counts; what has no plain answer here (a package that is missing,
        say) says nothing."""
        space = self._space if in_module else dict(self._space)
        try:
            for name in modules:
                space[name] = importlib.import_module(name)
            random.seed(0)
            exec(compile(text, "<tests>", "exec", dont_inherit=True), space)
            if entry is not None:
                space["check"](space[entry])
        except (ImportError, NameError, MemoryError, RecursionError):
            return "unknown", ""
        except Exception as error:
            return "failed", f"{type(error).__name__}: {error}"[:200]
        return "passed", ""

    def _class(self, name: str, source: str) -> None:
        """A class of the tests, of which an instance is about to come."""
        exec(source, self._shared)
        self._classes[name] = self._shared[name]

    def _target(self, target: Any) -> Any:
        if type(target) is str:
            if target in self._space:
                return self._space[target]
            raise NameError(f"name '{target}' is not defined")
        return target

    def _handle(self, payload: Any) -> Any:
        return self._handles[payload]

    def _callback(self, number: int) -> Any:
        def callback(*args: Any, **kwargs: Any) -> Any:
            self._encoder.start()
            positional, named = self._encoder.arguments(args, kwargs)
            self._send(["cb", number, positional, *([named] if kwargs else [])])
            while True:
                message = self._decoder.message(self._channel.receive())
                if message[0] == "cbv":
                    return message[1]
                if message[0] == "cbe":
                    raise getattr(builtins, message[1], CallbackError)(message[2])
                self._answer(message)

        return callback

    def _object(self, payload: Any) -> Any:
        name, state = payload
        cls = self._classes.get(name) or self._space[name]
        instance = object.__new__(cls)
        for key, value in state.items():
            object.__setattr__(instance, key, value)
        return instance

    def _special(self, x: Any, encoder: Encoder, depth: int) -> Any:
        t = type(x)
        if t.__name__ in self._class_names and t in (self._classes.get(t.__name__), self._space.get(t.__name__)):
            return {"o": [t.__name__, encoder.pack(vars(x), depth + 1)]}
        if not _PLAIN_BASES.isdisjoint(type.mro(t)):
            return None
        if hasattr(t, "__next__"):
            kind = "iterator"
        elif t is re.Match or isinstance(x, _NAMELESS):
            kind = "thing"
        else:
            kind = "object"
        number = self._numbers.setdefault(id(x), len(self._handles))
        if number == len(self._handles):
            self._handles.append(x)
        return {"h": [number, kind, t.__name__]}

    def _failure(self, error: BaseException) -> list[Any]:
        names = [_BUILTIN_ERRORS[base] for base in type.mro(type(error)) if base in _BUILTIN_ERRORS]
        try:
            text = str(error)[:500]
        except BaseException:
            text = ""
        try:
            self._encoder.start()
            args = self._encoder.pack(list(error.args))
            self._encoder.frame([args])
        except BaseException:
            args = [text]
        return ["e", names, type(error).__name__, text, args]

    def _send(self, message: list[Any]) -> None:
        self._sync()
        self._channel.send(self._encoder.frame(message))
