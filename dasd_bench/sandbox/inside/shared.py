"""Objects that both sides hold under one number, for tests that ask which object they got or what became of theirs.

Each side sends its objects with their numbers before every message, and the other side gives the objects of those
numbers the content that came: changes and identity are then what they are in a single process. Only data crosses, and
only objects that have crossed have a number, so a program can change no more of the tests than what they gave it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from .wire import Decoder, Encoder, WireError

#: Objects sent before each message, the newest: a test that makes more looks at few of them again.
_SENT_EACH_TIME = 256
#: Tags of what has an identity.
_IDENTIFIED = frozenset("tdsBqCODoag")
_VALUES = frozenset({type(None), bool, int, float, complex, str, bytes})
JUDGE, PROGRAM = 0, 1


class Shared:
    """The objects by number. ``side``: JUDGE gives even numbers, PROGRAM odd ones."""

    def __init__(self, side: int) -> None:
        self._next = side
        self._numbers: dict[int, int] = {}
        self._objects: dict[int, Any] = {}

    def find(self, x: Any) -> int | None:
        return self._numbers.get(id(x))

    def number(self, x: Any) -> int:
        """The object's number; a new one for an object that has none."""
        known = self._numbers.get(id(x))
        if known is None:
            known, self._next = self._next, self._next + 2
            self._keep(known, x)
        return known

    def newest(self) -> list[Any]:
        return list(self._objects.values())[-_SENT_EACH_TIME:]

    def settle(self, number: int, content: Any) -> Any:
        """The object of that number, now with this content; the content itself where the number is new."""
        known = self._objects.get(number)
        if known is not None and _update(known, content):
            return known
        self._keep(number, content)
        return content

    def known(self, number: Any) -> Any:
        if type(number) is not int or number not in self._objects:
            raise WireError("an object that has not been sent")
        return self._objects[number]

    def _keep(self, number: int, x: Any) -> None:
        self._objects[number] = x  # and alive, so that its id stays its own
        self._numbers[id(x)] = number


class SharingEncoder(Encoder):
    """An :class:`Encoder` that names objects by number, in full the first time that a message holds them."""

    def __init__(self, special: Callable[..., Any], limit: int, functions: bool, shared: Shared) -> None:
        super().__init__(special, limit, functions)
        self._shared = shared
        self._sent: set[int] = set()

    def start(self) -> None:
        super().start()
        self._sent.clear()

    def objects(self) -> list[Any]:
        """The content of a message that brings the other side up to date."""
        self.start()
        return [self.pack(x) for x in self._shared.newest()]

    def pack(self, x: Any, depth: int = 0) -> Any:
        if type(x) in _VALUES:
            return super().pack(x, depth)
        number = self._shared.find(x)
        if number in self._sent:
            return {"=": number}
        packed = super().pack(x, depth)
        if type(packed) is dict:
            ((tag, content),) = packed.items()
            if tag[0] == "&":  # of a subclass: its content was packed as an object of the base
                packed = content
            elif tag not in _IDENTIFIED:
                return packed
        elif type(packed) is not list:
            return packed
        number = self._shared.number(x)
        self._sent.add(number)
        return {f"&{number}": packed}


class SharingDecoder(Decoder):
    """Reads what a :class:`SharingEncoder` writes."""

    def __init__(self, special: dict[str, Callable[[Any], Any]], shared: Shared) -> None:
        super().__init__({**special, "=": shared.known})
        self._shared = shared

    def _build(self, tagged: dict[str, Any]) -> Any:
        for tag, content in tagged.items():
            if tag[:1] == "&" and len(tagged) == 1:
                return self._shared.settle(int(tag[1:]), content)
        return super()._build(tagged)


def _update(known: Any, content: Any) -> bool:
    """Gives ``known`` the content, in place and only where it differs (a program may be iterating over it). False
    where it cannot take it."""
    if isinstance(known, tuple):
        return isinstance(content, tuple) and _same(known, content)
    if isinstance(known, dict) and isinstance(content, dict):
        base = OrderedDict if isinstance(known, OrderedDict) else dict
        if not (_same(list(known), list(content)) and _same(list(known.values()), list(content.values()))):
            base.clear(known)
            base.update(known, content)
    elif isinstance(known, list) and isinstance(content, list):
        if not _same(known, content):
            list.__setitem__(known, slice(None), content)
    elif isinstance(known, deque) and isinstance(content, deque):
        if not _same(known, content):
            deque.clear(known)
            deque.extend(known, content)
    elif isinstance(known, set) and isinstance(content, set):
        if set(known) != content:
            set.clear(known)
            set.update(known, content)
    elif isinstance(known, bytearray) and isinstance(content, bytearray):
        if bytes(known) != bytes(content):
            known[:] = content
    elif type(known).__module__ == "numpy" or type(content).__module__ == "numpy":
        if getattr(known, "shape", None) != getattr(content, "shape", None) or type(known) is not type(content):
            return False
        known[...] = content
    elif type(known).__name__ == type(content).__name__ and not isinstance(known, (list, dict, deque, set, bytearray)):
        _update_instance(known, content)
    else:
        return False
    return True


def _update_instance(known: Any, content: Any) -> None:
    if hasattr(known, "__dict__"):
        vars(known).clear()
        vars(known).update(vars(content))
    for cls in type(known).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(content, name):
                object.__setattr__(known, name, getattr(content, name))


def _same(known: Any, content: Any) -> bool:
    return len(known) == len(content) and all(
        a is b or (type(a) is type(b) and type(a) in _VALUES and a == b) for a, b in zip(known, content, strict=True)
    )
