"""The 26 families of hostile and careless programs: no forged pass, no effect outside, the right outcome."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dasd_bench.sandbox import Outcome, Sample, Sandbox

from .conftest import LEVELS
from .hostile import CHECKED, LEFTOVERS, PROBLEM, PROGRAMS, RIGHT, Hostile
from .outside import Outside, open_outside

#: Families that reach for what a level of isolation must hold; the others are the judge's work at every level.
BY_LEVEL = {1, 5, 6, 7, 8, 11, 12, 14, 16, 22, 24}
CASES = [
    pytest.param(level, program, id=f"{level}-{program.id}")
    for level in LEVELS
    for program in PROGRAMS
    if level == LEVELS[0] or program.family in BY_LEVEL
]


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with open_outside(tmp_path_factory.mktemp("outside"), tmp_path_factory.mktemp("socket")) as found:
        yield found


@pytest.mark.parametrize(("any_box", "program"), CASES, indirect=["any_box"])
def test_hostile_program_neither_passes_nor_reaches_out(program: Hostile, any_box: Sandbox, outside: Outside) -> None:
    code = outside.fill(program.code)
    results = any_box.run([Sample("p", code), Sample("c", "    pass\n" + code), Sample("p", RIGHT)], [PROBLEM, CHECKED])
    for result in results[:2]:
        assert not result.passed
        assert result.outcome.value in program.outcomes, result
    # The next program in the same zygote finds nothing changed.
    assert results[2].passed, results[2]
    assert outside.effects() == []


@pytest.mark.parametrize("program", LEFTOVERS, ids=lambda program: program.name)
def test_right_answer_with_harmless_leftovers_passes(program: Hostile, any_box: Sandbox) -> None:
    (result,) = any_box.run([Sample("p", program.code)], [PROBLEM])
    assert result.outcome is Outcome.PASSED, result


def test_right_answer_with_a_forked_child_that_holds_the_pipes_passes(box: Sandbox) -> None:
    if box.level is None or box.level.value == "landlock":
        pytest.skip("processes are forbidden at this level")
    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\n    os._exit(0)\n" + RIGHT
    (result,) = box.run([Sample("p", code)], [PROBLEM])
    assert result.passed, result
    assert result.wall_seconds < 30


def test_signal_number_is_reported(box: Sandbox) -> None:
    code = "import os, signal\ndef solve(x):\n    os.kill(os.getpid(), signal.SIGKILL)"
    (result,) = box.run([Sample("p", code)], [PROBLEM])
    assert (result.outcome, result.signal) == (Outcome.KILLED, 9)


def test_file_left_by_one_program_is_not_seen_by_the_next(box: Sandbox) -> None:
    leave = "import os\ndef solve(x):\n    os.makedirs('a/b', exist_ok=True)\n    os.chmod('.', 0)\n    return -1"
    look = "import os\ndef solve(x):\n    return 3 * x + 1 if not os.listdir('.') and not os.listdir('/tmp') else 0"
    samples = [Sample("p", leave), Sample("p", leave), Sample("p", look), Sample("p", look)]
    if box.level is not None and box.level.value != "namespaces":
        samples = [Sample("p", code.replace(" and not os.listdir('/tmp')", "")) for code in (leave, leave, look, look)]
    assert [result.passed for result in box.run(samples, [PROBLEM])] == [False, False, True, True]
