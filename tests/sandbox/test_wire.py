# ruff: noqa: E501 (programs and payloads read better on one line)
"""Frames and values: exact round trips, and nothing but plain data or WireError out of random bytes."""

from __future__ import annotations

import gc
import json
import random
import socket
import struct
import sys
import threading
from collections import Counter, OrderedDict, deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dasd_bench.sandbox import Outcome, Problem, Sample, Sandbox
from dasd_bench.sandbox.inside.judge import judge, prepare
from dasd_bench.sandbox.inside.proxy import Ended, Session
from dasd_bench.sandbox.inside.wire import Decoder, Encoder, TooLarge, WireError, check_body

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


@pytest.mark.parametrize("depth", [1, 50, 149, 150])
@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"[[": v}, lambda v: [v, '"]\\', "\\[", {}]])
def test_what_an_encoder_makes_a_body_may_hold(depth: int, wrap: Any) -> None:
    value: Any = [1]
    for _ in range(depth):
        value = wrap(value)
    encoder = Encoder(lambda x, e, d: None, 1 << 24, functions=False)
    check_body(encoder.frame(["v", encoder.pack(value)])[4:])


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.tuples(inner) | st.builds(deque, st.lists(inner))),
       st.integers(140, 170))  # fmt: skip
def test_a_body_is_refused_where_an_encoder_would_refuse_its_value(leaf: Any, levels: int) -> None:
    """``json`` alone would take what is deeper, and it could not be sent back."""
    value = leaf
    for _ in range(levels):
        value = [value, '"]'] if levels % 2 else [value]
    encoder = Encoder(lambda x, e, d: None, 1 << 24, functions=False)
    try:
        packed = encoder.pack(value)
    except WireError:
        return
    check_body(encoder.frame(["v", None, [packed]])[4:])


@pytest.mark.parametrize("filling", ["", '"[",', '"\\\\",', '"\\"[",', "{},", "[],"])
def test_a_body_deeper_than_any_encoder_makes_is_refused(filling: str) -> None:
    for depth in (151, 155, 700, 900_000):
        body = '["v",' + f"[{filling}" * (depth + 2) + "1" + "]" * (depth + 3)
        with pytest.raises(WireError):
            check_body(body.encode())


def test_a_body_of_too_many_objects_is_refused_unread() -> None:
    with pytest.raises(TooLarge):
        check_body(b'["v",[' + b'{"q":[[],null]},' * 3_000_001 + b"1]]")


def test_an_array_without_numpy_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(WireError):
        Decoder({}).message(b'["v",{"a":["<f8",[1],[1.0]]}]')


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i1", "i2", "i4", "u1", "u8", "b1"])
def test_no_array_makes_numpy_round_what_it_meets(kind: str) -> None:
    numpy = pytest.importorskip("numpy")
    values = numpy.array([0, 1], dtype=kind)
    found = round_trip(values)
    assert found.dtype.itemsize == (1 if kind == "b1" else 8)
    assert found.tolist() == values.tolist()
    single = round_trip(numpy.array(1, dtype=kind))
    assert type(single) in (bool, int, float)
    assert not numpy.any(round_trip(numpy.array([numpy.inf], dtype="f2")) == 100_000)


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


def test_a_callback_whose_answer_is_too_large_is_no_fault_of_the_tests() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for body in (json.dumps(["cb", 0, ["é" * 6000]]), '["v",1]'):
            theirs.sendall(struct.pack(">I", len(body)) + body.encode())
        session = Session(ours, 40_000, 1.0, {}, [])
        assert session.call("f", (lambda text: 2 * text,), {}, False) == 1
        assert session.unfit is None


def test_a_judge_keeps_nothing_of_what_a_program_sent() -> None:
    tests = prepare({"kind": "mbpp", "prompt": "", "entry_point": "f", "tests": ["assert len(f(1)) == 1"], "test": "", "imports": "",
                     "setup": ""})  # fmt: skip
    many = 5000
    value = '["v",{"t":[[' + ",".join(['{"q":[[],null]}'] * many) + "]]}]"
    gc.collect()
    gc.disable()
    try:
        before = sum(type(x) is deque for x in gc.get_objects())
        for expected in ("passed", "wrong_answer"):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                sent = value if expected == "passed" else value.replace('"t":[[', '"t":[1,[')
                for body in ('["ready"]', sent):
                    theirs.sendall(struct.pack(">I", len(body)) + body.encode())
                assert judge(tests, ours, 5.0)[0] == expected
        assert sum(type(x) is deque for x in gc.get_objects()) - before < many
    finally:
        gc.enable()


def test_a_session_records_only_where_it_is_asked_to_and_not_for_ever() -> None:
    for records, size, kept in ((False, 10, None), (True, 10, 3), (True, 600_000, None)):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            body = json.dumps(["v", "x" * size]).encode()
            feeder = threading.Thread(target=theirs.sendall, args=((struct.pack(">I", len(body)) + body) * 3,))
            feeder.start()
            session = Session(ours, 1 << 20, 5.0, {}, [], records)
            for _ in range(3):
                session.call("f", (1,), {}, False)
            feeder.join()
            assert (session.heard if session.heard is None else len(session.heard)) == kept


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
