# ruff: noqa: E501 (programs and payloads read better on one line)
"""Frames and values: exact round trips, and nothing but plain data or WireError out of random bytes."""

from __future__ import annotations

import json
import random
import socket
import struct
from collections import Counter, OrderedDict, deque
from typing import Any

import pytest

from dasd_bench.sandbox import Outcome, Problem, Sample, Sandbox
from dasd_bench.sandbox.inside.proxy import Ended, Session
from dasd_bench.sandbox.inside.wire import Decoder, Encoder, TooLarge, WireError

SEED = 20240607
PLAIN = (bool, int, float, str, type(None), list, tuple, dict, set, frozenset, bytes, bytearray, complex, range, deque,
         Counter, OrderedDict)  # fmt: skip


def round_trip(value: Any) -> Any:
    encoder = Encoder(lambda x, e, d: None, 1 << 24, functions=False)
    return Decoder({}).message(encoder.frame(["v", encoder.pack(value)])[4:])[1]


def random_value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(16 if depth < 4 else 8)
    if kind == 0:
        return rng.choice([None, True, False, 0, -1, 2**63, -(2**63) - 1, 10**60])
    if kind == 1:
        return rng.choice([0.0, -0.0, float("inf"), 1e-320, rng.random()])
    if kind in (2, 3):
        return "".join(
            chr(rng.choice([0, 34, 92, 65, 0xD800, 0x1F600, rng.randrange(1, 0x3000)])) for _ in range(rng.randrange(6))
        )
    if kind in (4, 5):
        return rng.randrange(-(10**6), 10**6)
    if kind == 6:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(5)))
    if kind == 7:
        return complex(rng.random(), -0.0)
    items = [random_value(rng, depth + 1) for _ in range(rng.randrange(5))]
    hashable = [item for item in items if type(item) in (int, float, str, bytes, bool, complex)]
    return [
        items, tuple(items), set(hashable), frozenset(hashable), dict(zip(hashable, items, strict=False)),
        deque(items, maxlen=9), OrderedDict(zip(hashable, items, strict=False)), Counter(map(str, items)),
    ][kind - 8]  # fmt: skip


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if type(a) in (list, tuple, deque):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a.items(), b.items(), strict=True))
    return bool(a == b) and repr(a) == repr(b) if not isinstance(a, (set, frozenset)) else bool(a == b)


def test_random_values_come_back_as_they_were() -> None:
    rng = random.Random(SEED)
    for _ in range(3000):
        value = random_value(rng)
        assert same(value, round_trip(value)), value


def test_subclasses_lose_what_they_override() -> None:
    class Liar(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    back = round_trip([Liar(3)])
    assert type(back[0]) is int
    assert back != [4]


def test_very_many_rows_travel_as_a_table() -> None:
    cells = ["a", "bb", True, 1, 1.0, 0.0, -0.0, None, 10**30]
    rows = [tuple(cells[(i >> k) % 9] for k in range(6)) for i in range(100_000)]
    encoder = Encoder(lambda x, e, d: None, 1 << 24, functions=False)
    assert list(encoder.pack(rows)) == ["g"]
    back = round_trip(rows)
    assert back == rows
    assert [[(type(x), repr(x)) for x in row] for row in back[:999]] == [
        [(type(x), repr(x)) for x in row] for row in rows[:999]
    ]
    assert round_trip(tuple(map(list, rows))) == tuple(map(list, rows))
    for last in (([], 2, 3, 4, 5, 6), (1, 2)):
        mixed = [*rows, last]
        assert round_trip(mixed) == mixed


@pytest.mark.parametrize("payload", ["[true,5,2,[],\"\"]", "[true,1,1000000000,[\"a\"],\"\"]", "[true,1,1,[\"a\"],\"zz\"]", "[1,2]",
                                     "[true,1,1,[\"a\"],\"789c6300000002000\"]", "[true,0,5,[\"a\"],\"\"]"])  # fmt: skip
def test_broken_tables_are_refused(payload: str) -> None:
    with pytest.raises(WireError):
        Decoder({}).message(f'["v",{{"g":{payload}}}]'.encode())


@pytest.mark.parametrize("depth", [151, 2000])
def test_deep_and_circular_values_are_refused(depth: int) -> None:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    circular: list[Any] = []
    circular.append(circular)
    for bad in (value, circular):
        with pytest.raises(WireError):
            round_trip(bad)


def test_a_value_whose_shared_parts_explode_is_too_large() -> None:
    value: Any = [0] * 100
    for _ in range(12):
        value = [value] * 100
    with pytest.raises(TooLarge):
        round_trip(value)


def test_random_frames_give_plain_data_or_an_error() -> None:
    rng = random.Random(SEED + 1)
    decoder = Decoder({})
    words = ['"v"', "1", "-0.0", "1e999", "NaN", "null", "true", '"x"', "[", "]", "{", "}", ":", ",", '"t"', '"d"', '"s"', '"i"', '"0x"', '"T"',
             '"int"', '"eval"', '"q"', '"F"', '"r"', '"h"', '"o"', '"b"', '"c"', '"a"', '"dt"', '"M"', "9" * 400, '"\\ud800"']  # fmt: skip

    def check(value: Any) -> None:
        assert type(value) in PLAIN or isinstance(value, type) or type(value).__module__ in (
            "datetime", "decimal", "fractions", "collections", "builtins", "numpy")  # fmt: skip
        if type(value) in (list, tuple):
            for item in value:
                check(item)

    for _ in range(20_000):
        if rng.random() < 0.3:
            body = bytes(rng.randrange(256) for _ in range(rng.randrange(40)))
        else:
            tag, payload = rng.choice(words), "".join(rng.choice(words) for _ in range(rng.randrange(6)))
            body = rng.choice(
                [f'["v",{{{tag}:[{payload}]}}]', f'["v",{{{tag}:{payload}}}]', f'["v",{payload}]', payload]
            ).encode()
        try:
            message = decoder.message(body)
        except WireError:
            continue
        check(message)


def test_random_answers_never_pass_a_session() -> None:
    """A judge that asks one question gets random bytes: it ends with a reason, never with an error of its own."""
    rng = random.Random(SEED + 2)
    kinds = ["v", "e", "stop", "cb", "large", "opaque", "ready", "syntax", "passed"]
    for _ in range(400):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            parts = [rng.choice([1, "x", [], None, ["ValueError"], {"t": []}, -1]) for _ in range(rng.randrange(6))]
            body = json.dumps([rng.choice(kinds), *parts]).encode()
            if rng.random() < 0.3:
                body = bytes(rng.randrange(256) for _ in range(rng.randrange(30)))
            theirs.sendall(struct.pack(">I", len(body) + rng.choice([0, 0, 0, 5])) + body)
            theirs.shutdown(socket.SHUT_WR)
            session = Session(ours, 1 << 16, 1.0, {}, [])
            caught: BaseException | None = None
            try:
                session.call("f", (1,), {}, False)
            except (Ended, Exception) as error:
                caught = error
            assert caught is None or session.ended is not None or caught is session.last_error


def random_program(rng: random.Random) -> str:
    lines = ["import os, sys, struct", "def f(*a):"]
    actions = [
        "    os.write(3, {junk})", "    os.write(1, {junk})", "    x = {value}", "    raise {error}({value})", "    return {value}",
        "    os.close({fd})", "    sys.setrecursionlimit(50)", "    os.write(3, struct.pack('>I', {size}) + {junk})", "    del f", "    (((",
    ]  # fmt: skip
    for _ in range(rng.randrange(1, 6)):
        junk = bytes(rng.randrange(256) for _ in range(rng.randrange(20)))
        lines.append(rng.choice(actions).format(
            junk=junk, value=rng.choice(["[]", "f", "a", "object()", "{1: f}", "iter(a)", "True", "[True] * 9"]), fd=rng.randrange(5),
            error=rng.choice(["ValueError", "SystemExit", "StopIteration", "KeyError", "OSError", "UnicodeDecodeError"]),
            size=rng.choice([0, 5, 2**31, len(junk)]),
        ))  # fmt: skip
    return "\n".join(lines) + "\n"


def test_random_programs_never_pass(box: Sandbox) -> None:
    rng = random.Random(SEED + 3)
    problem = Problem(
        "p", "mbpp", entry_point="f", tests=("assert f(7) == 'the expected text'", "assert f(8) == [8, {'a': 1}]")
    )
    results = box.run([Sample("p", random_program(rng)) for _ in range(300)], [problem])
    assert {r.outcome for r in results} <= set(Outcome) - {Outcome.PASSED, Outcome.INFRASTRUCTURE_ERROR}
