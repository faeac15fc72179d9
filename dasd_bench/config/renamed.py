"""Options that have another name now: specifications and command lines written with the old one are still read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dasd_bench.errors import UsageError

RENAMED: dict[str, dict[str, str]] = {
    "engine": {"slots": "max_num_seqs"},
    "training": {"micro_tokens": "microbatch_tokens"},
}
"""New names by section and old name."""


def new_name(section: str, name: str) -> str:
    """What the option ``name`` of ``section`` is called now."""
    return RENAMED.get(section, {}).get(name, name)


def with_new_names(section: str, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``values`` of ``section`` under the names of now; raises :class:`UsageError` for an option under both names."""
    for old, new in RENAMED.get(section, {}).items():
        if old in values and new in values:
            raise UsageError(f"{where}: {section}.{old} is called {section}.{new} now, and both are there; keep one.")
    return {new_name(section, name): value for name, value in values.items()}
