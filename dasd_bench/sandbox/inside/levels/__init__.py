"""One class per isolation level: what is built around a zygote from outside, and what it puts itself into from inside.

A level is a module of its name, with an instance of its class as ``LEVEL``, and a member of
:class:`dasd_bench.sandbox.IsolationLevel`, whose order is that of strength. A zygote loads its own level alone.
"""

from __future__ import annotations

import importlib

from .base import Level

__all__ = ["Level", "named"]


def named(name: str) -> Level:
    """The level of that name. Raises ImportError where there is none."""
    level: Level = importlib.import_module(f".{name}", __name__).LEVEL
    return level
