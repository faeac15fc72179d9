"""An entry of ``results/``: the folder of one run, sweep, probe or ablation, with what proves its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dasd_bench.errors import DasdError, StoreError, UsageError
from dasd_bench.files.yaml_file import read_mapping
from dasd_bench.results import ablation, probe
from dasd_bench.results.directory import MANIFEST_FILE, RESULTS_FILE, SPEC_FILE, SWEEP_FILE, TABLES_FILE

ENTRY_FILE = "entry.yaml"
"""What the submitter says of an entry; only ``without_results`` is known, the reason why results.json is not there."""

KINDS = {
    RESULTS_FILE: "run",
    SWEEP_FILE: "sweep",
    probe.RESULTS_FILE: "probe",
    ablation.FILE: "ablation",
    MANIFEST_FILE: "tables",
    SPEC_FILE: "tables",
    TABLES_FILE: "tables",
}
"""The kind of an entry by the first of these files that it holds. ``tables`` is a run without item-level results."""


@dataclass(frozen=True, slots=True)
class EntryFolder:
    """One entry's folder and kind, and the reason it gives for having no ``results.json`` (empty where it gives none).

    ``problem`` says why its ``entry.yaml`` cannot be used.
    """

    path: Path
    kind: str
    without_results: str = ""
    problem: str = ""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name


def entry_folders(folder: Path) -> list[EntryFolder]:
    """The entries directly in ``folder``, by name; folders with none of an entry's files are passed over.

    Raises :class:`UsageError` where there is no such folder or no entry in it.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; name the folder that holds the entries, such as results/.")
    found = [entry for path in sorted(folder.iterdir()) if path.is_dir() and (entry := _entry(path)) is not None]
    if not found:
        raise UsageError(f"{folder} holds no entries: an entry is a folder with {RESULTS_FILE}, {MANIFEST_FILE}, ...")
    return found


def _entry(path: Path) -> EntryFolder | None:
    kind = next((kind for name, kind in KINDS.items() if (path / name).is_file()), None)
    if kind is None:
        return None
    about = path / ENTRY_FILE
    if not about.is_file():
        return EntryFolder(path, kind)
    try:
        said = read_mapping(about, StoreError)
    except DasdError as error:
        return EntryFolder(path, kind, problem=str(error))
    reason = said.get("without_results")
    if set(said) != {"without_results"} or not isinstance(reason, str) or not reason.strip():
        return EntryFolder(path, kind, problem=f"{about}: it holds one key, 'without_results', with a reason in words.")
    return EntryFolder(path, kind, " ".join(reason.split()))
