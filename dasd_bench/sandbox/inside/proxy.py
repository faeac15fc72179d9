"""What the tests hold instead of the program's functions and objects.

A call crosses to the program and comes back as plain data. Things that are no plain data stay on the other side, and
the tests hold a :class:`RemoteThing`: it can be called, iterated and asked for attributes, each answer again being
plain data, but it has no equality, order, truth, containment or arithmetic of its own. Those would let an object of
the program decide a comparison, or show it the value it is compared with.
"""

from __future__ import annotations

import builtins
import socket
import types
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from .shared import JUDGE, Shared, SharingDecoder, SharingEncoder
from .wire import Decoder, Encoder, Gone, Late, TimedChannel, TooLarge, WireError, check_body

_ITERATOR_ITEMS = 1_000_000
#: Bytes of answers kept per problem.
ANSWER_BYTES = 1 << 20
#: Raised by a program inside a generator or map() of the tests, these would end it early and silently.
_CONTROL_FLOW = {"StopIteration", "StopAsyncIteration", "GeneratorExit"}
_BASES = (int, float, str, list, tuple, dict, set, frozenset, bytes, bytearray, deque)


class Ended(BaseException):
    """The program can answer no more. Not an Exception, so that a test's ``except Exception`` does not hide it; a
    bare ``except`` might, so the session remembers it, too."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(outcome, detail)
        self.outcome = outcome
        self.detail = detail


class CannotCross(Exception):  # noqa: N818
    """The tests pass something that has no plain form: a fault of the problem, unless it comes from an answer."""


class Session:
    """One program under test: sends calls, rebuilds answers, remembers how it ended. ``records``: whether calls and
    answers are kept for later programs. ``shares``: whether objects are one and the same on both sides, not copies."""

    def __init__(
        self, sock: socket.socket, frame_bytes: int, seconds: float, classes: dict[str, str], ahead: list[bytes],
        records: bool = False, shares: bool = False,
    ) -> None:  # fmt: skip
        self._channel = TimedChannel(sock, frame_bytes, seconds)
        special = {"h": self._thing, "o": self._object, "T": self._type}
        self.shares = shares
        self._encoder: Encoder = Encoder(self._special, frame_bytes, functions=True)
        self._decoder = Decoder(special)
        if shares:
            shared = Shared(JUDGE)
            self._encoder = SharingEncoder(self._special, frame_bytes, True, shared)
            self._decoder = SharingDecoder(special, shared)
        #: The tests' namespace. Classes are looked up in it when asked for: they are defined as it runs.
        self.space: dict[str, Any] = {}
        self._classes = classes
        self._local_classes: dict[str, type] = {}
        self._functions: list[Callable[..., Any]] = []
        self._things: dict[int, RemoteThing | RemoteIterator] = {}
        self._depth = 0
        #: Call frames expected from an earlier program's passing run: sent at once, so that neither side waits.
        self._ahead = deque(ahead)
        #: This run's call frames; None where nobody records, or once something other than plain calls has crossed.
        self.log: list[bytes] | None = [] if records else None
        #: Bodies of the answers so far, None where nobody records or they have become too many; bytes of all answers.
        self.heard: list[bytes] | None = [] if records else None
        self.heard_bytes = 0
        #: Bodies that :meth:`repeats` has read and the tests have not.
        self._unread: deque[bytes] = deque()
        self._broken: Exception | None = None
        #: Calls made, and globals read; messages of the program in answer to them.
        self.calls = self.replies = 0
        self.ended: Ended | None = None
        self.unfit: CannotCross | None = None
        self.last_error: BaseException | None = None
        self.last_value: Any = None

    def wait_ready(self) -> None:
        """Returns when the program has been defined. Raises Ended, or the error that defining it raised."""
        message = self._receive()
        if message[0] == "ready":
            return
        if message[0] == "syntax" and len(message) == 2:
            raise self._end("syntax_error", str(message[1])[:500])
        if message[0] == "e":
            raise self._error(message)
        raise self._end("no_result", "the program sent an invalid answer")

    def share(self) -> None:
        """Tells the program's side that objects are shared."""
        self._deliver(self._encoder.frame(["share"]))

    def send_ahead(self) -> None:
        """Sends the expected calls. Should the tests then ask something else, the session ends with ``retry``."""
        if self._ahead:
            self._deliver(b"".join(self._ahead))

    def repeats(self, answers: list[bytes]) -> bool:
        """Whether the program's answers to the calls sent ahead are those of an earlier run, byte for byte. Where not,
        the tests get to read them all; this waits for no answer that they would not wait for."""
        for expected in answers:
            try:
                body = self._channel.receive()
            except (Late, Gone, WireError, MemoryError) as error:
                self._broken = error
                return False
            self._unread.append(body)
            if body != expected:
                return False
        return True

    def close(self) -> None:
        """Lets go of all that the program sent. What a session holds refers back to it: else that would stay until
        the collector's next full round."""
        self.space.clear()
        vars(self).clear()

    def hello(self, imports: str) -> None:
        """Tells the program's side the tests' imports and the names of their classes."""
        self._deliver(self._encoder.frame(["hello", imports, list(self._classes)]))

    def call(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], with_args: bool) -> Any:
        """The value of ``target(*args, **kwargs)``. Arguments that the program changed in place are changed here when
        the call gave None or was a statement of its own: then the change is the result."""
        self.calls += 1
        self._encoder.start()
        try:
            packed = [target if type(target) is str else self._encoder.pack(target)]
            packed += self._encoder.arguments(args, kwargs)
        except WireError as error:
            raise self._unfit(str(error)) from None
        reply = self._request(["call", *packed, with_args], call=True)
        value = reply[1]
        if len(reply) > 2:
            after, before = reply[2], [*args, *kwargs.values()]
            if type(after) is int and 0 <= after < len(before):
                value = self._same(before[after], value)
            elif value is None or with_args:
                self.log = None  # the arguments may have changed: what a later question shows is an answer
                if type(after) is list and len(after) == len(before):
                    for old, new in zip(before, after, strict=True):
                        sync(old, new)
        self.last_value = value
        return value

    def _same(self, passed: Any, value: Any) -> Any:
        """The object that was ``passed``, where the program gave it back as it is; else the value that it gave."""
        try:
            return passed if type(passed) is type(value) and self._pack(passed) == self._pack(value) else value
        except WireError:
            return value

    def plain(self, modules: list[str], text: str, entry: str | None, in_module: bool) -> list[Any]:
        """What the tests say in the program's own process: ``passed``, ``failed`` or anything else, and a sentence. It
        is the program's word, so it may only count against it. ``in_module``: they run in the program's namespace, not
        in a copy of it, in which they would not see its globals change."""
        self.wait_ready()
        self._send(["plain", modules, text, entry, in_module])
        return self._receive()[1:3]

    def operate(self, op: str, target: Any, *rest: Any) -> Any:
        self._encoder.start()
        try:
            packed = [target if type(target) is str else self._encoder.pack(target), *map(self._encoder.pack, rest)]
        except WireError as error:
            raise self._unfit(str(error)) from None
        reply = self._request([op, *packed])
        self.last_value = reply[1]
        return reply[1]

    def value_of(self, name: RemoteName) -> Any:
        """What the program's global of that name holds now; the name itself for a function or class."""
        self.calls += 1
        value = self.operate("value", name._name)
        return name if type(value) is RemoteThing and value._kind == "thing" else value

    def advance(self, handle: int) -> Any:
        """The next item of a remote iterator; raises StopIteration at its end."""
        reply = self._request(["next", handle], stop=True)
        if reply[0] == "stop":
            raise StopIteration
        return reply[1]

    # ------------------------------------------------------------------ messages

    def _request(self, message: list[Any], stop: bool = False, call: bool = False) -> list[Any]:
        self._send(message, call)
        while True:
            reply = self._receive()
            self.replies += 1
            kind = reply[0]
            if kind == "v" and len(reply) in (2, 3):
                return reply
            if kind == "e":
                raise self._error(reply)
            if kind == "stop" and stop:
                return reply
            if kind == "cb":
                self._run_callback(reply)
                continue
            if kind == "large":
                raise self._end("output_limit", "the program returned a value over the size limit")
            if kind == "opaque":
                raise self._end("wrong_answer", f"the program returned {str(reply[1:])[:200]}")
            raise self._end("no_result", "the program sent an invalid answer")

    def _run_callback(self, message: list[Any]) -> None:
        """The program calls a function that the tests passed to it."""
        if len(message) not in (3, 4) or type(message[1]) is not int or type(message[2]) is not list:
            raise self._end("no_result", "the program sent an invalid answer")
        named = message[3] if len(message) == 4 else {}
        if type(named) is not dict or any(type(name) is not str for name in named):
            raise self._end("no_result", "the program sent an invalid answer")
        if not 0 <= message[1] < len(self._functions) or self._depth > 50:
            raise self._end("no_result", "the program called a function that it was not given")
        self._depth += 1
        try:
            value = self._functions[message[1]](*message[2], **named)
            self._encoder.start()
            answer = ["cbv", self._encoder.pack(value)]
            self._encoder.frame(answer)  # made from what the program passed: its size is no fault of the tests
        except Exception as error:
            answer = ["cbe", type(error).__name__, str(error)[:500]]
        finally:
            self._depth -= 1
        self._send(answer)

    def _send(self, message: list[Any], call: bool = False) -> None:
        if self.ended:
            raise self.ended
        try:
            frame = self._encoder.frame(message)
        except WireError as error:
            raise self._unfit(str(error)) from None
        if not call:
            self.log = None
        elif self.log is not None:
            self.log.append(frame)
        if isinstance(self._encoder, SharingEncoder):
            self._deliver(self._encoder.frame(["sync", self._encoder.objects()]))
        if not self._ahead:
            self._deliver(frame)
        elif not call or self._ahead.popleft() != frame:
            raise self._end("retry", "the tests asked another question than before")

    def _deliver(self, frame: bytes) -> None:
        try:
            self._channel.send(frame)
        except Late:
            raise self._end("timeout", "no answer within the wall limit") from None
        except Gone:
            raise self._end("gone", "the program closed its channel") from None

    def _receive(self) -> list[Any]:
        if self.ended:
            raise self.ended
        try:
            while True:
                body = self._next()
                check_body(body)
                message = self._decoder.message(body)
                if message[0] != "sync":
                    return message
        except Late:
            raise self._end("timeout", "no answer within the wall limit") from None
        except Gone:
            raise self._end("gone", "the program closed its channel") from None
        except TooLarge:
            raise self._end("output_limit", "the program sent an answer over the size limit") from None
        except WireError as error:
            raise self._end("no_result", f"the program sent {error}") from None
        except MemoryError:
            raise self._end("output_limit", "the program sent an answer too large to hold") from None

    def _next(self) -> bytes:
        if self._unread:
            body = self._unread.popleft()
        elif self._broken:
            raise self._broken
        else:
            body = self._channel.receive()
        self.heard_bytes += len(body)
        if self.heard is not None:
            self.heard.append(body)
            if self.heard_bytes > ANSWER_BYTES:
                self.heard = None
        return body

    def _end(self, outcome: str, detail: str) -> Ended:
        self.ended = Ended(outcome, detail)
        return self.ended

    def _unfit(self, why: str) -> CannotCross:
        self.unfit = CannotCross(why)
        return self.unfit

    def _pack(self, value: Any) -> Any:
        self._encoder.start()
        return self._encoder.pack(value)

    def _error(self, message: list[Any]) -> BaseException:
        """The program's exception as the nearest class this side has: one of the tests', else a built-in one."""
        if len(message) != 5 or type(message[1]) is not list or type(message[3]) is not str:
            return self._end("no_result", "the program sent an invalid answer")
        _, names, own_name, text, args = message
        chosen: type[BaseException] = Exception
        known = self._class(own_name)
        if known is not None and issubclass(known, BaseException):
            chosen = known
        else:
            for name in names:
                candidate = getattr(builtins, name, None) if type(name) is str else None
                if isinstance(candidate, type) and issubclass(candidate, BaseException):
                    chosen = RuntimeError if name in _CONTROL_FLOW else candidate
                    break
        try:
            error = chosen.__new__(chosen)
        except TypeError:  # a class that insists on arguments
            error = Exception()
        error.args = tuple(args) if type(args) is list else (text,)
        error.__dict__["_dasd_text"] = f"{own_name}: {text}"[:500]
        self.last_error = error
        return error

    # ------------------------------------------------------------------ values that are not plain

    def _special(self, x: Any, encoder: Encoder, depth: int) -> Any:
        t = type(x)
        if t is RemoteThing or t is RemoteIterator or t is RemoteName:
            if t is RemoteName:
                raise WireError(f"the name '{x._name}' as a value")
            return {"h": x._handle}
        if t.__name__ in self._classes and t.__module__ == "tests":
            if t.__name__ not in self._local_classes and self._classes[t.__name__]:
                self._deliver(self._encoder.frame(["class", t.__name__, self._classes[t.__name__]]))
            self.log = None
            self._local_classes[t.__name__] = t
            return {"o": [t.__name__, encoder.pack(_state(x), depth + 1)]}
        if isinstance(x, (types.FunctionType, types.MethodType, types.BuiltinFunctionType)):
            self.log = None
            self._functions.append(x)
            return {"f": len(self._functions) - 1}
        if isinstance(x, Iterator):
            items = list(islice(x, _ITERATOR_ITEMS + 1))
            if len(items) > _ITERATOR_ITEMS:
                raise WireError(f"an iterator of over {_ITERATOR_ITEMS} items")
            return {"it": encoder.pack(items, depth + 1)}
        return None

    def _thing(self, payload: Any) -> Any:
        self.log = None
        handle, kind, name = payload
        if type(handle) is not int or type(kind) is not str or type(name) is not str:
            raise WireError("a broken reference")
        if handle not in self._things:  # one object of the program is one here
            self._things[handle] = (
                RemoteIterator(self, handle) if kind == "iterator" else RemoteThing(self, handle, kind, name[:100])
            )
        return self._things[handle]

    def _object(self, payload: Any) -> Any:
        name, state = payload
        cls = self._class(name)
        if cls is None or type(state) is not dict or any(type(key) is not str for key in state):
            raise WireError("an instance of a class that the tests do not have")
        instance: Any = object.__new__(cls)
        for key, value in state.items():
            object.__setattr__(instance, key, value)
        return instance

    def _class(self, name: Any) -> type | None:
        """A class that the tests define, at their top level or, once an instance has crossed, in a function."""
        if type(name) is not str or name not in self._classes:
            return None
        cls = self._local_classes.get(name, self.space.get(name))
        return cls if isinstance(cls, type) else None

    def _type(self, name: Any) -> Any:
        value = getattr(builtins, name, None) if type(name) is str else None
        if value is Ellipsis or isinstance(value, type):
            return value
        raise WireError("a name that is not a built-in type")


def _state(x: Any) -> dict[str, Any]:
    state = dict(getattr(x, "__dict__", {}))
    for cls in type(x).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(x, name):
                state[name] = getattr(x, name)
    return state


def sync(old: Any, new: Any) -> None:
    """Gives the container ``old`` the content of ``new``, in place, keeping the nested containers that still fit."""
    if type(old) is not type(new):
        return
    if type(old) is list:
        for i, (a, b) in enumerate(zip(old, new, strict=False)):
            if type(a) in (list, dict, set, bytearray, deque) and type(a) is type(b):
                sync(a, b)
                new[i] = a
        old[:] = new
    elif isinstance(old, dict):
        for key, value in new.items():
            if key in old and type(old[key]) is type(value) and type(value) in (list, dict, set, bytearray, deque):
                sync(old[key], value)
                new[key] = old[key]
        old.clear()
        dict.update(old, new)
    elif type(old) is set:
        old.clear()
        old.update(new)
    elif type(old) is bytearray:
        old[:] = new
    elif type(old) is deque:
        old.clear()
        old.extend(new)
    elif hasattr(old, "__dict__") and not isinstance(old, (type, *_BASES, RemoteThing, types.FunctionType)):
        for key, value in vars(new).items():
            object.__setattr__(old, key, value)


class RemoteName:
    """A name that the program defines: calling it calls the program's function of that name."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self.__name__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._session.call(self._name, args, kwargs, False)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._session.operate("get", self._name, name)


class RemoteThing:
    """An object that stays with the program. See the module's text for what it can and cannot do."""

    __slots__ = ("_handle", "_kind", "_name", "_session")
    # By identity, as its equality: it may be a key or in a set, where nothing else is equal to it.
    __hash__ = object.__hash__

    def __init__(self, session: Session, handle: int, kind: str, name: str) -> None:
        for slot, value in zip(RemoteThing.__slots__, (handle, kind, name, session), strict=True):
            object.__setattr__(self, slot, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._session.call(self, args, kwargs, False)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._session.operate("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise AttributeError(name)
        self._session.operate("set", self, name, value)

    def __iter__(self) -> Any:
        return iter(self._session.operate("iter", self))

    def __len__(self) -> int:
        size = self._session.operate("len", self)
        if type(size) is not int:
            raise TypeError("a length that is not an integer")
        return size

    def __getitem__(self, key: Any) -> Any:
        return self._session.operate("item", self, key)

    def __contains__(self, item: Any) -> bool:
        return any(item == other for other in self)

    def __bool__(self) -> bool:
        if self._kind == "thing":
            return True
        raise TypeError(f"an object of type {self._name} has no truth value for the tests")

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<{self._name} of the program>"


class RemoteIterator:
    """A generator or other iterator of the program; items come one by one, as plain data."""

    __slots__ = ("_handle", "_session")

    def __init__(self, session: Session, handle: int) -> None:
        self._session = session
        self._handle = handle

    def __iter__(self) -> RemoteIterator:
        return self

    def __next__(self) -> Any:
        return self._session.advance(self._handle)

    def __bool__(self) -> bool:
        return True
