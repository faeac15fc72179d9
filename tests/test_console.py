"""Progress of a run: a live view on a terminal, plain lines when piped, events for machines, and Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import rich.console

from dasd_bench import console as console_module
from dasd_bench.console import Console
from dasd_bench.run.stages.train import Train
from tests.run.helpers import command, run_args


def work(console: Console) -> None:
    with console.progress("score targets", 8, "requests") as meter:
        for _ in range(8):
            meter.advance(1, 500)


def test_plain_lines_say_rate_time_left_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "PLAIN_SECONDS", 0.0)
    out = io.StringIO()
    work(Console(stream=out))
    lines = out.getvalue().splitlines()
    assert len(lines) == 8
    pattern = r"  score targets: \d/8 requests, [\d,]+ tok/s, \S+ left, \d+\.\d GiB"
    assert all(re.fullmatch(pattern, line) for line in lines)
    assert "\x1b" not in out.getvalue()


def test_events_are_one_object_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "PLAIN_SECONDS", 0.0)
    out = io.StringIO()
    work(Console(stream=out, json_events=True))
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["done"] for event in events] == list(range(1, 9))
    last = events[-1]
    assert (last["event"], last["label"], last["unit"]) == ("progress", "score targets", "requests")
    assert (last["total"], last["tokens"], last["seconds_left"]) == (8, 4000, 0.0)
    assert last["memory_gib"] > 0


def test_a_terminal_gets_one_live_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "110")
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as stream:
        console = Console(stream=stream)
        assert console.is_terminal
        work(console)
        parts = []
        while not parts or "8/8" not in parts[-1]:
            # What was written is there to be read; a view that never says 8/8 ends in the time limit of the select.
            assert select.select([master], [], [], 10)[0], f"only {parts}"
            parts.append(os.read(master, 100_000).decode(errors="replace"))
    os.close(master)
    shown = "".join(parts)
    for words in ("score targets", "8/8", "tok/s", "left", "GiB"):
        assert words in shown


def test_ctrl_c_says_what_is_saved_and_how_to_go_on(
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    args = run_args(tiny_folder("llama"), tmp_path, "--limit", "2", "--train-limit", "2", methods="sft,profit")
    original = Train.run
    calls = iter([False, True])

    def run(stage: Train) -> None:
        if next(calls):
            signal.raise_signal(signal.SIGINT)
        original(stage)

    monkeypatch.setattr(Train, "run", run)
    result = command(capsys, *args)
    assert result.code == 130
    (line,) = (line for line in result.out.splitlines() if line.startswith("Interrupted."))
    for words in ("Saved: targets (2), score (2)", "train", "Resume with: dasd-bench", str(tmp_path / "run")):
        assert words in line
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "cancelled"
    monkeypatch.undo()
    again = command(capsys, *args)
    assert again.code == 0
    assert "[train sft seed 0] reused from the store" in again.out


def test_the_time_left_is_by_what_this_sitting_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 steps 90 were done in an earlier session; one a second since: 8 seconds are left, not 0.2."""
    now = 0.0
    monkeypatch.setattr(console_module.time, "monotonic", lambda: now)
    with Console(stream=io.StringIO()).progress("train", 100, "steps") as meter:
        meter.go_on(90)
        assert meter.fields()["seconds_left"] is None
        for now in (1.0, 2.0):  # noqa: B007
            meter.advance()
        fields = meter.fields()
    assert (fields["done"], fields["earlier"], fields["seconds_left"]) == (92, 90, 8.0)
    assert meter._note().startswith("1.00 steps/s, 8.0s left")


def test_a_total_that_is_told_late_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    out = io.StringIO()
    console = Console(stream=out)
    console.rich = rich.console.Console(file=out, force_terminal=True, width=110)
    with console.progress("train", 0, "steps") as meter:
        meter.total = 40
        meter.advance(37)
    assert "37/40" in out.getvalue()


def test_a_branch_warns_for_itself() -> None:
    console = Console(stream=io.StringIO())
    console.warn("all")
    one, two = console.branch(), console.branch()
    one.warn("one")
    assert (console.warnings, one.warnings, two.warnings) == (["all"], ["all", "one"], ["all"])
