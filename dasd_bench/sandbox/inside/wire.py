"""Plain data on a byte stream: the only thing that ever passes between model-written code and its judge.

A frame is a 4-byte big-endian length and that many bytes of ASCII JSON. JSON's own types stand for ``None``, ``bool``,
``int``, ``float``, ``str`` and ``list``; every other type is an object with exactly one key, its tag. JSON was chosen
because its C parser builds exact types, checks depth and calls nothing that the sender names: a frame cannot carry
behaviour. Both sides use this module, and only the judge's copy is trusted.
"""

from __future__ import annotations

import builtins
import datetime
import json
import os
import re
import socket
import struct
import time
import zlib
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate, chain, islice
from typing import Any

MAX_DEPTH = 150
MAX_NODES = 12_000_000
INT_BOUND = 2**63
#: Tagged objects that a body may hold: the dearest take some 650 bytes each once they are rebuilt.
_MAX_TAGS = 3_000_000
#: Lists within lists in a body: those of the value, and at most two more of the message that holds it.
_MAX_LISTS = MAX_DEPTH + 3
_ESCAPE = re.compile(rb"\\.")
_STRING = re.compile(rb'"[^"]*"')
_NO_MARKS = bytes(set(range(256)) - set(b'[]"'))
_PIECE = 1 << 20
#: Brackets whose depths are worked out at once: few, so that a body that is too deep is refused early.
_MARKS = 1 << 16
_STEP = {ord("["): 1, ord("]"): -1}
_TABLE_ROWS, _TABLE_LEAST, _TABLE_CELLS = 1000, 500_000, 200_000_000
_DTYPE = re.compile("[<>|=][biuf][0-9]{1,2}")
_WIDEST = {"b": "?", "i": "i8", "u": "u8", "f": "f8"}
_ROW_KINDS = ({tuple}, {list})
LENGTH = struct.Struct(">I")

_SCALARS = frozenset({str, bool, float, type(None)})
_SCALARS_AND_INT = _SCALARS | {int}
_DATES = (datetime.datetime, datetime.date, datetime.time)
_NAMED = {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type) or (type(value) is type(len) and name not in {"exec", "eval", "compile", "open"})
}
_NAME_OF = {id(value): name for name, value in reversed(_NAMED.items())}
_TYPE_NAME_OF = {key: name for key, name in _NAME_OF.items() if isinstance(_NAMED[name], type)}
_VIEWS = {type({}.keys()): "dk", type({}.values()): "dv", type({}.items()): "di"}


class WireError(Exception):
    """Bytes that are no frame, or a value that is no plain data."""


class TooLarge(WireError):  # noqa: N818 (a state of the value, read in a sentence)
    """A value or frame over the size limit."""


def check_body(body: bytes) -> None:
    """Refuses, before it is decoded, a body that holds more lists within lists than an :class:`Encoder` makes
    (WireError: what is deeper could be decoded but not be sent back, nor be compared), or too many objects (TooLarge).
    """
    if body.count(b'{"') > _MAX_TAGS:
        raise TooLarge("a frame of too many parts")
    if body.count(b"[") <= _MAX_LISTS:
        return
    if b"\\" in body:
        body = _ESCAPE.sub(b"", body)
    marks = body.translate(None, _NO_MARKS).replace(b'""', b"")
    if b'"' in marks:
        marks = _STRING.sub(b"", marks)
    if b'"' in marks:
        raise WireError("a text without its end")
    depth = 0
    for start in range(0, len(marks), _MARKS):
        depths = list(accumulate(map(_STEP.__getitem__, marks[start : start + _MARKS]), initial=depth))
        if max(depths) > _MAX_LISTS:
            raise WireError(f"a value nested deeper than {MAX_DEPTH} levels")
        depth = depths[-1]


class Encoder:
    """Turns a value into what JSON can say. ``special`` gets what is not plain data and gives a tagged object.

    Types are compared with ``type(x) is``; instances of subclasses of plain types are sent as their base's content,
    so an overridden ``__eq__`` or ``__class__`` stays behind. Built-in types cross by name, and with ``functions`` the
    built-in functions too. Raises :class:`WireError`, or :class:`TooLarge` when the
    value (shared parts counted each time) has over ``MAX_NODES`` parts or ``limit`` characters.
    """

    def __init__(self, special: Callable[[Any, Encoder, int], Any], limit: int, functions: bool) -> None:
        self._special = special
        self._names = _NAME_OF if functions else _TYPE_NAME_OF
        self._limit = limit
        self._left = limit
        self._nodes = MAX_NODES
        self._json = json.JSONEncoder(ensure_ascii=True, check_circular=False, separators=(",", ":")).encode

    def frame(self, message: list[Any]) -> bytes:
        """The frame of a message whose parts are already packed."""
        body = self._json(message).encode("ascii")
        if len(body) > self._limit:
            raise TooLarge(f"a frame of {len(body)} bytes")
        return LENGTH.pack(len(body)) + body

    def start(self) -> None:
        """Begins a new message: sizes count from zero."""
        self._left, self._nodes = self._limit, MAX_NODES

    def arguments(self, args: Iterable[Any], kwargs: dict[str, Any]) -> list[Any]:
        """The packed arguments of a call: a list and a dict."""
        return [self._items(list(args), 0), {"d": self._pairs(kwargs, 0)}]

    def pack(self, x: Any, depth: int = 0) -> Any:
        t = type(x)
        if t is str:
            self._left -= len(x)
            if self._left < 0:
                raise TooLarge("a text over the size limit")
            return x
        if t in _SCALARS:
            return x
        if t is int:
            if -INT_BOUND <= x < INT_BOUND:
                return x
            self._left -= x.bit_length() // 4
            if self._left < 0:
                raise TooLarge("a number over the size limit")
            return {"i": hex(x)}
        if depth > MAX_DEPTH:
            raise WireError(f"nested deeper than {MAX_DEPTH} levels, or a container that contains itself")
        if t is list:
            return self._items(x, depth)
        if t is tuple:
            return {"t": self._items(x, depth)}
        if t is dict:
            return {"d": self._pairs(x, depth)}
        packer = _PACKERS.get(t)
        if packer is not None:
            return packer(self, x, depth)
        return self._other(x, t, depth)

    def _items(self, x: Any, depth: int) -> Any:
        """The packed parts: a list, or one tagged object that stands for it."""
        self._nodes -= len(x)
        if self._nodes < 0:
            raise TooLarge("a value of too many parts")
        kinds = set(map(type, x))
        if len(x) >= _TABLE_ROWS and kinds in _ROW_KINDS:
            table = _pack_table(x)
            if table is not None:
                return table
        if kinds <= _SCALARS_AND_INT:
            if str in kinds:
                self._left -= sum(len(v) for v in x if type(v) is str)
                if self._left < 0:
                    raise TooLarge("texts over the size limit")
            if int not in kinds:
                return list(x)
            numbers = x if kinds == {int} else [v for v in x if type(v) is int]
            if min(numbers) >= -INT_BOUND and max(numbers) < INT_BOUND:
                return list(x)
        pack = self.pack
        return [pack(v, depth + 1) for v in x]

    def _pairs(self, x: Any, depth: int, items: Callable[[Any], Iterable[tuple[Any, Any]]] = dict.items) -> Any:
        flat: list[Any] = []
        for key, value in items(x):
            flat += (key, value)
        return self._items(flat, depth)

    def _other(self, x: Any, t: type, depth: int) -> Any:
        name = self._names.get(id(x))
        if name is not None:
            return {"T": name}
        if x is Ellipsis:
            return {"T": "Ellipsis"}
        if t.__module__ == "numpy":
            packed = self._numpy(x, depth)
            if packed is not None:
                return packed
        special = self._special(x, self, depth)
        if special is not None:
            return special
        mro = type.mro(t)
        if int in mro:
            return self.pack(int.__add__(x, 0), depth)
        if float in mro:
            return self.pack(float.__pos__(x), depth)
        if str in mro:
            return self.pack(str.__str__(x), depth)
        for base in (list, tuple, dict, set, frozenset, deque, bytes, bytearray):
            if base in mro:
                return self._base(x, base, mro, depth)
        raise WireError(f"a value of type {t.__name__} is not plain data")

    def _base(self, x: Any, base: type, mro: list[type], depth: int) -> Any:
        if base is dict:
            if OrderedDict in mro:
                return {"O": self._pairs(x, depth, OrderedDict.items)}
            if Counter in mro:
                return {"C": self._pairs(x, depth)}
            if defaultdict in mro:
                return _pack_defaultdict(self, x, depth)
            return {"d": self._pairs(x, depth)}
        if base in (bytes, bytearray):
            return self.pack(base(bytes.join(b"", [memoryview(x)])), depth)
        return self.pack(base(base.__iter__(x)), depth)  # type: ignore[attr-defined]

    def _numpy(self, x: Any, depth: int) -> Any:
        kind = type(x).__name__
        if kind == "ndarray":
            if x.dtype.kind not in "biuf":
                return None
            flat = x.ravel().tolist()
            return {"a": [x.dtype.str, list(x.shape), self._items(flat, depth)]}
        if hasattr(x, "dtype") and hasattr(x, "item"):
            item = x.item()
            if type(item) in (bool, int, float, complex, str):
                return self.pack(item, depth)
        return None


def _pack_table(rows: Any) -> dict[str, list[Any]] | None:
    """Very many rows of one width made of few different objects (all combinations of something) as the objects'
    numbers, compressed; None for any other value. Written out in JSON, one problem's right answer takes a gibibyte."""
    width = len(rows[0])
    if not _TABLE_LEAST <= width * len(rows) <= _TABLE_CELLS or set(map(len, rows)) != {width}:
        return None
    # Objects are told apart by identity: by value, True would become 1.
    numbers: dict[int, int] = {}
    objects: list[Any] = []
    packer = zlib.compressobj(1)
    parts = []
    step = max(1, _PIECE // width)
    for start in range(0, len(rows), step):
        cells = list(chain.from_iterable(rows[start : start + step]))
        for key, cell in dict(zip(map(id, cells), cells, strict=True)).items():
            if key not in numbers:
                if type(cell) not in _SCALARS_AND_INT or len(objects) == 256:
                    return None
                numbers[key] = len(objects)
                objects.append({"i": hex(cell)} if type(cell) is int else cell)
        parts.append(packer.compress(bytes(map(numbers.__getitem__, map(id, cells)))))
    data = b"".join([*parts, packer.flush()])
    return {"g": [type(rows[0]) is tuple, width, len(rows), objects, data.hex()]}


def _table(payload: Any) -> list[Any]:
    as_tuples, width, count, objects, data = payload
    if type(as_tuples) is not bool or not set(map(type, _expect(objects, list))) <= _SCALARS_AND_INT:
        raise WireError("a broken table")
    size = _expect(width, int) * _expect(count, int)
    if width < 1 or count < 0 or size > _TABLE_CELLS:
        raise WireError("a table over the size limit")
    cells = zlib.decompressobj().decompress(bytes.fromhex(_expect(data, str)), size + 1)
    if len(cells) != size or (cells and max(cells) >= len(objects)):
        raise WireError("a broken table")
    values = map(objects.__getitem__, cells)
    row = tuple if as_tuples else list
    return [row(islice(values, width)) for _ in range(count)]


def _pack_deque(e: Encoder, x: Any, depth: int) -> Any:
    """Two lists within each other, so it counts as two levels."""
    if depth >= MAX_DEPTH:
        raise WireError(f"nested deeper than {MAX_DEPTH} levels")
    return {"q": [e._items(list(x), depth + 1), x.maxlen]}


def _pack_defaultdict(e: Encoder, x: Any, depth: int) -> Any:
    """With the name of its factory, where that is a built-in type. Two levels, as a deque."""
    if depth >= MAX_DEPTH:
        raise WireError(f"nested deeper than {MAX_DEPTH} levels")
    factory = defaultdict.__dict__["default_factory"].__get__(x)
    return {"D": [_TYPE_NAME_OF.get(id(factory)), e._pairs(x, depth + 1)]}


def _pack_dict_view(e: Encoder, x: Any, depth: int) -> Any:
    return {_VIEWS[type(x)]: e._items(list(x), depth)}


_PACKERS: dict[type, Callable[[Encoder, Any, int], Any]] = {
    set: lambda e, x, d: {"s": e._items(list(x), d)},
    frozenset: lambda e, x, d: {"z": e._items(list(x), d)},
    bytes: lambda e, x, d: {"b": e.pack(x.hex(), d)},
    bytearray: lambda e, x, d: {"B": e.pack(x.hex(), d)},
    complex: lambda e, x, d: {"c": [x.real, x.imag]},
    range: lambda e, x, d: {"r": [e.pack(v, d + 1) for v in (x.start, x.stop, x.step)]},
    slice: lambda e, x, d: {"sl": [e.pack(v, d + 1) for v in (x.start, x.stop, x.step)]},
    deque: _pack_deque,
    Counter: lambda e, x, d: {"C": e._pairs(x, d)},
    # Its own order, which move_to_end changes, is not that of the dict below it.
    OrderedDict: lambda e, x, d: {"O": e._pairs(x, d, OrderedDict.items)},
    defaultdict: _pack_defaultdict,
    Fraction: lambda e, x, d: {"F": [e.pack(x.numerator, d), e.pack(x.denominator, d)]},
    Decimal: lambda e, x, d: {"M": e.pack(str(x), d)},
    datetime.timedelta: lambda e, x, d: {"td": [x.days, x.seconds, x.microseconds]},
    datetime.datetime: lambda e, x, d: {"dt": [0, x.isoformat()]},
    datetime.date: lambda e, x, d: {"dt": [1, x.isoformat()]},
    datetime.time: lambda e, x, d: {"dt": [2, x.isoformat()]},
    **dict.fromkeys(_VIEWS, _pack_dict_view),
}


class Decoder:
    """Rebuilds values of exact types from JSON text; anything unexpected raises :class:`WireError`.

    ``special`` maps further tags (handles, callbacks, instances of classes this side knows) to builders.
    """

    def __init__(self, special: dict[str, Callable[[Any], Any]]) -> None:
        self._builders = {**_BUILDERS, **special}
        self._decode = json.JSONDecoder(object_hook=self._build).decode

    def message(self, body: bytes) -> list[Any]:
        try:
            message = self._decode(body.decode("ascii"))
        except WireError:
            raise
        except (
            ValueError,
            TypeError,
            ArithmeticError,
            RecursionError,
            LookupError,
            AttributeError,
            zlib.error,
        ) as error:
            raise WireError(f"a broken frame ({type(error).__name__}: {str(error)[:100]})") from None
        if type(message) is not list or not message or type(message[0]) is not str:
            raise WireError("a frame that is not a message")
        return message

    def _build(self, tagged: dict[str, Any]) -> Any:
        if len(tagged) != 1:
            raise WireError("an object without exactly one tag")
        ((tag, payload),) = tagged.items()
        builder = self._builders.get(tag)
        if builder is None:
            raise WireError("an unknown tag")
        return builder(payload)


def _expect(x: Any, t: type) -> Any:
    if type(x) is not t:
        raise WireError(f"{type(x).__name__} where {t.__name__} was due")
    return x


def _dict(flat: Any) -> dict[Any, Any]:
    _expect(flat, list)
    if len(flat) % 2:
        raise WireError("a dict with a key too many")
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _ints(x: Any, n: int) -> list[Any]:
    if len(_expect(x, list)) != n or any(type(v) not in (int, type(None)) for v in x):
        raise WireError("numbers were due")
    return x  # type: ignore[no-any-return]


def _array(payload: Any) -> Any:
    """An array of its kind's widest common type: a narrower one would make numpy round what it is compared with, and
    ``array(inf, "f2") == 100000`` true. One number without a shape is a plain number."""
    try:
        import numpy
    except ImportError:
        raise WireError("an array, and the tests have no numpy") from None

    dtype, shape, flat = payload
    _ints(shape, len(shape))
    if not _DTYPE.fullmatch(_expect(dtype, str)) or set(map(type, _expect(flat, list))) - {bool, int, float}:
        raise WireError("an array of numbers was due")
    array = numpy.array(flat, dtype=_WIDEST[dtype[1]]).reshape(shape)
    return array if shape else array.item()


def _counter(flat: Any) -> Any:
    # Counter(dict) would sum; plain update keeps the values as sent.
    counter: Counter[Any] = Counter()
    dict.update(counter, _dict(flat))
    return counter


def _defaultdict(payload: Any) -> Any:
    name, flat = payload
    factory = None if name is None else _NAMED[_expect(name, str)]
    if not (factory is None or isinstance(factory, type)):
        raise WireError("a factory that is no type")
    return defaultdict(factory, _dict(flat))


def _date(payload: Any) -> Any:
    kind, text = payload
    return _DATES[_expect(kind, int)].fromisoformat(_expect(text, str))


def _complex(payload: Any) -> complex:
    re, im = payload
    return complex(_expect(re, float), _expect(im, float))


_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "i": lambda p: int(_expect(p, str), 16),
    "t": lambda p: tuple(_expect(p, list)),
    "d": _dict,
    "s": lambda p: set(_expect(p, list)),
    "z": lambda p: frozenset(_expect(p, list)),
    "b": lambda p: bytes.fromhex(_expect(p, str)),
    "B": lambda p: bytearray.fromhex(_expect(p, str)),
    "c": _complex,
    "r": lambda p: range(*_ints(p, 3)),
    "sl": lambda p: slice(*p),
    "q": lambda p: deque(_expect(p[0], list), p[1]),
    "C": _counter,
    "O": lambda p: OrderedDict(_dict(p)),
    "D": _defaultdict,
    "F": lambda p: Fraction(*_ints(p, 2)),
    "M": lambda p: Decimal(_expect(p, str)),
    "td": lambda p: datetime.timedelta(*_ints(p, 3)),
    "dt": _date,
    "T": lambda p: Ellipsis if p == "Ellipsis" else _NAMED[_expect(p, str)],
    "a": _array,
    "g": _table,
    "dk": lambda p: dict.fromkeys(_expect(p, list)).keys(),
    "dv": lambda p: dict(enumerate(_expect(p, list))).values(),
    "di": lambda p: dict(_expect(p, list)).items(),
}


class Gone(Exception):  # noqa: N818
    """The other side closed the channel."""


class Late(Exception):  # noqa: N818
    """The other side used up the time it had."""


class Channel:
    """Frames over a descriptor or socket: reading is buffered, sizes are checked before a body is read."""

    def __init__(self, descriptor: int, limit: int) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._buffer = b""

    def send(self, frame: bytes) -> None:
        """Writes a whole frame. Raises Gone."""
        try:
            sent = os.write(self._descriptor, frame)
            while sent < len(frame):
                sent += os.write(self._descriptor, frame[sent : sent + _PIECE])
        except BlockingIOError:
            raise Late from None
        except OSError:
            raise Gone from None

    def receive(self) -> bytes:
        """The body of the next frame. Raises Gone, Late, or TooLarge before an oversized body is read."""
        data = self._buffer or self._read(1 << 16)
        while len(data) < LENGTH.size:
            data += self._read(1 << 16)
        end = LENGTH.size + LENGTH.unpack_from(data)[0]
        if end - LENGTH.size > self._limit:
            raise TooLarge(f"a frame of {end} bytes")
        if len(data) < end:
            parts, got = [data], len(data)
            while got < end:
                parts.append(self._read(min(end - got, _PIECE)))
                got += len(parts[-1])
            data = b"".join(parts)
        self._buffer = data[end:]
        return data[LENGTH.size : end]

    def _read(self, size: int) -> bytes:
        try:
            data = os.read(self._descriptor, size)
        except BlockingIOError:
            raise Late from None
        except OSError:
            raise Gone from None
        if not data:
            raise Gone
        return data


class TimedChannel(Channel):
    """A channel that spends at most ``seconds`` in all waiting for its other side; then it raises Late."""

    def __init__(self, sock: socket.socket, limit: int, seconds: float) -> None:
        super().__init__(sock.fileno(), limit)
        self._sock = sock
        self._left = seconds
        self._armed = 0.0
        self._arm()

    def _arm(self) -> None:
        # The kernel's own timeout saves a poll() per call; it is set anew when it has come to differ from what is left.
        if self._left <= 0:
            raise Late
        self._armed = self._left
        value = struct.pack("@ll", int(self._left), int(self._left % 1 * 1e6) or 1)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def send(self, frame: bytes) -> None:
        start = time.monotonic()
        super().send(frame)
        self._spend(start)

    def _read(self, size: int) -> bytes:
        start = time.monotonic()
        data = super()._read(size)
        self._spend(start)
        return data

    def _spend(self, start: float) -> None:
        self._left -= time.monotonic() - start
        if self._left < 0.9 * self._armed:
            self._arm()
