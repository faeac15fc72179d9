"""Whose a folder of a sweep, a probe or an ablation is: its settings file says so, from before the work to its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dasd_bench.errors import StoreError, UsageError
from dasd_bench.store.atomic import write_text


@dataclass(frozen=True, slots=True)
class Claim:
    """A folder for one ``kind`` of work with the settings ``text``, which ``folder/name`` holds."""

    folder: Path
    name: str
    text: str
    kind: str

    def check(self) -> None:
        """Raises :class:`UsageError` for a folder with other work in it, and for what is no folder."""
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"--output {self.folder} is a file; name a folder.")
        file = self.folder / self.name
        if file.is_file():
            if not self._holds():
                raise UsageError(
                    f"{self.folder} contains {self.kind} with other settings, or a damaged {self.name}; choose another "
                    "folder with --output."
                )
        elif self.folder.is_dir() and any(not path.name.startswith(".") for path in self.folder.iterdir()):
            raise UsageError(
                f"--output {self.folder} is not empty and contains no {self.kind.partition(' ')[2]}; name an empty or "
                "a new folder."
            )

    def take(self) -> None:
        """Checks the folder and writes the settings file."""
        self.check()
        write_text(self.folder / self.name, self.text)

    def still_held(self, parts: Iterable[Path] = ()) -> None:
        """Raises :class:`StoreError` where the folder, or one of its ``parts``, was removed or taken over."""
        if not self._holds() or not all(path.exists() for path in parts):
            raise StoreError(
                f"{self.folder} was removed, in whole or in part, during {self.kind}; finished work is in the store, "
                "so run the same command again to write the folder anew."
            )

    def _holds(self) -> bool:
        try:
            return (self.folder / self.name).read_text(encoding="utf-8") == self.text
        except (OSError, ValueError):
            return False
