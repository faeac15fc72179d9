"""Where and how a run is worked off."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Where and how a run is worked off: nothing here changes what it finds.

    ``output`` is the run directory (default ``runs/<name of the run>``), ``store`` the folder of shared results
    (default in the user's cache). ``processes`` train together, by ``parallel`` = ``data`` or ``fsdp``. ``track``
    names experiment trackers; ``accept_licences`` the licences the user accepts.
    """

    output: Path | None = None
    store: Path | None = None
    processes: int = 1
    parallel: str = "data"
    accept_licences: tuple[str, ...] = ()
    track: tuple[str, ...] = ()
