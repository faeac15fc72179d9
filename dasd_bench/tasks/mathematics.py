r"""Grades final answers in LaTeX: a fast path where their shape settles it, else math-verify in a process of its own.

math-verify's own time limit is a signal of the main thread; sympy can also hold the interpreter for minutes. Here a
question that takes too long costs one killed process, from any thread.
"""

from __future__ import annotations

import contextlib
import json
import re
import selectors
import subprocess
import sys
import threading
import weakref

from dasd_bench.records import Reason, Verdict
from dasd_bench.task import verdict_of
from dasd_bench.tasks.grading import extract_number, last_boxed, number_in

SECONDS = 5.0
"""Time limit of one comparison; lm-eval's minerva tasks use the same."""
START_SECONDS = 60.0
"""Time limit for starting the process: sympy takes a second to import, more on a busy machine."""

_DECLARED = re.compile(
    r"final answer is:?\s*(.+?)\.?\s*(?:I hope it is correct|\n|$)|answer is:?\s*(\$[^$]+\$)", re.IGNORECASE
)
_INLINE = re.compile(r"\$([^$]+)\$")
_NOISE = re.compile(
    r"\\(?:left|right|displaystyle)(?![a-z])|\\[!,;: ]|\\(?:text|mathrm|mbox|textbf)\{\s*(?:\w+\s*)?\}"
    r"|\^\{?\\circ\}?|\\[%$]|[$\s]"
)


class Verifier:
    """math-verify behind a time limit. ``same`` may be called from any thread; calls wait for each other."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.kills = 0
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def same(self, gold: str, answer: str) -> bool | None:
        """Whether the two LaTeX answers are equal as mathematics; None where the time limit was hit."""
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps([gold, answer]).encode() + b"\n")
                process.stdin.flush()
                line = self._read_line(process, self.seconds)
            except OSError:
                line = b""
            if line:
                return bool(json.loads(line))
            # Too slow, or dead by its memory limit: both are the answer's doing, and a new process serves the next.
            self.kills += 1
            _stop(process)
            self._process = None
            return None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "dasd_bench.tasks.verify_worker"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            weakref.finalize(self, _stop, self._process)
            if not self._read_line(self._process, START_SECONDS):
                _stop(self._process)
                raise RuntimeError("the math-verify process did not start")
        return self._process

    @staticmethod
    def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
        """One line of output; empty where none came in time or the process ended. One answer is one short write."""
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            return process.stdout.readline() if selector.select(seconds) else b""


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            # What was still in the pipe is of no use.
            with contextlib.suppress(OSError):
                stream.close()


def extract_math(text: str, numeric: bool) -> str | None:
    """The final answer of a solution: boxed, declared, a number where one is wanted, else the last formula."""
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    declared = _DECLARED.findall(text)
    if declared:
        found = (declared[-1][0] or declared[-1][1]).strip()
        if not numeric or number_in(found) is not None:
            return str(found.strip("$"))
    if numeric:
        return extract_number(text)
    formulas = _INLINE.findall(text)
    return str(formulas[-1]) if formulas else None


def settle(answer: str, gold: str) -> bool | None:
    """The verdict where the answers' shapes settle it: equal after cleaning, or both plain numbers; else None."""
    left, right = clean(answer), clean(gold)
    if left == right and left:
        return True
    a, b = number_in(left), number_in(right)
    if a is not None and b is not None:
        return a == b
    return None


def clean(answer: str) -> str:
    r"""An answer without dress: spacing, ``\left``, units in ``\text``, degree and dollar signs, ``x =``, final dot."""
    text = answer.strip().rstrip(".").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = (
        re.sub(r"\\(?:text|mathrm|textbf|mbox)\{\s*([^{}]*?)\s*\}", lambda m: m.group(1), text)
        if _is_word(text)
        else text
    )
    text = _NOISE.sub("", text)
    text = re.sub(r"^[a-zA-Z]=", "", text)
    text = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)
    return text.rstrip(".")


def _is_word(text: str) -> bool:
    return re.fullmatch(r"\\(?:text|mathrm|textbf|mbox)\{[^{}]*\}", text) is not None


def grade_math(text: str, answer: str, verifier: Verifier) -> Verdict:
    """The verdict on a solution whose right final answer is the LaTeX ``answer``."""
    found = extract_math(text, number_in(clean(answer)) is not None)
    if found is None:
        return verdict_of(None, False)
    settled = settle(found, answer)
    if settled is None:
        settled = verifier.same(answer, found)
    if settled is None:
        return Verdict(False, Reason.TIMEOUT, found)
    return verdict_of(found, settled)
