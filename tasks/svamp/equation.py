"""A worked answer for SVAMP, whose rows have an equation and a number but no words."""

from __future__ import annotations

import re
from typing import Any

_PLAIN = re.compile(r"(\d+)\.0\b")
_INNER = re.compile(r"\(\s*(-?[\d.]+)\s*([-+*/])\s*(-?[\d.]+)\s*\)")


def number(value: Any) -> str:
    """``5.0`` as ``5``; the hub may give text."""
    return f"{float(value):.6f}".rstrip("0").rstrip(".")


def worked(row: dict[str, Any]) -> str:
    """One line per operation of the equation, innermost first, then ``#### n``.

    The one published row whose equation does not give its answer has the answer alone.
    """
    left, lines = str(row["Equation"]), []
    while (found := _INNER.search(left)) is not None:
        a, sign, b = float(found[1]), found[2], float(found[3])
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else float("nan")}[sign]
        lines.append(f"{number(a)} {sign} {number(b)} = {number(value)}")
        left = f"{left[: found.start()]}{value!r}{left[found.end() :]}"
    answer = number(row["Answer"])
    if not lines or lines[-1].rpartition("= ")[2] != answer:
        lines = []
    return "\n".join([*lines, f"#### {answer}"])


def operations(row: dict[str, Any]) -> int:
    """How many operations the equation has."""
    return len(re.findall(r"[\d)]\s*[-+*/]", _PLAIN.sub(r"\1", str(row["Equation"]))))


def process_docs(dataset: Any) -> Any:
    """lm-eval's hook: every row with its worked answer."""
    return dataset.map(lambda row: {"worked": worked(row)})
