"""Errors a person can act on: one sentence each, with the exit code of the command line.

Exit codes: 0 ok, 1 failed, 2 usage, 3 partial results saved, 130 interrupted and resumable.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DasdError(Exception):
    """A failure explained in one sentence; the command line prints it without a traceback."""

    exit_code = 1


class UsageError(DasdError):
    """A wrong name, option or value given by the user."""

    exit_code = 2


class DataError(DasdError):
    """A data file that is missing, malformed or empty; the message names file and line."""


class ModelError(DasdError):
    """A model that cannot be found, fetched, loaded or used for what was asked."""


class StoreError(DasdError):
    """The store or a run directory cannot be read or written (corrupt entry, full disk, held lock)."""


class PluginError(DasdError):
    """A method or task plugin that does not keep the plugin contract; the message names the file."""


class TaskError(PluginError):
    """A task plugin failed: it concerns every arm of a run, not one."""


class TrainingError(DasdError):
    """Training cannot start or go on (no weight above zero, divergence); names step and examples."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Gives ``" Did you mean 'x'?"`` for the nearest known name, or ``""`` when nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for an unknown method, task, model or option name, with a suggestion and the list."""
    names = sorted(known)
    return UsageError(f"Unknown {kind} '{name}'.{did_you_mean(name, names)} Known: {', '.join(names)}.")
