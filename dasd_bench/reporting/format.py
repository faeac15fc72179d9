"""Numbers as text: the only place where values are rounded."""

from __future__ import annotations

import math

from dasd_bench.reporting.table import MISSING
from dasd_bench.stats.intervals import Interval


def percent(value: float | None, digits: int = 1) -> str:
    """A share as percent without the sign: 0.5238 gives ``52.4``."""
    return MISSING if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


def number(value: float | None, digits: int = 2) -> str:
    """A plain number, or a dash."""
    return MISSING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def score(value: float, as_percent: bool) -> str:
    """A score as a table prints it."""
    return percent(value) if as_percent else number(value, 3)


def signed(value: float, as_percent: bool = True) -> str:
    """A difference with its sign; what rounds to zero is ``0.0``."""
    text = f"{100 * value:+.1f}" if as_percent else f"{value:+.3f}"
    return text[1:] if float(text) == 0 else text


def bracket(interval: Interval | None, as_percent: bool = True, *, sign: bool = False) -> str:
    """``[42.3, 61.5]``, or nothing without an interval."""
    if interval is None:
        return ""
    ends = (interval.low, interval.high)
    low, high = (signed(end, as_percent) if sign else score(end, as_percent) for end in ends)
    return f"[{low}, {high}]"


def p_value(p: float) -> str:
    """``p=.036``, ``p=.36``, ``p<.001`` or ``p=1``."""
    if p < 0.001:
        return "p<.001"
    text = f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"
    return "p=1" if text == "1.00" else f"p={text[1:]}"


def count(value: float | None) -> str:
    """A count with thousands separators; a mean over seeds that is not whole keeps one decimal."""
    if value is None:
        return MISSING
    return f"{round(value):,}" if abs(value - round(value)) < 1e-9 else f"{value:,.1f}"


def listing(items: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
