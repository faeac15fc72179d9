"""What a method counts beside the generic statistics of its targets: declared once, and every table has the column."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from dasd_bench.errors import PluginError

How = Literal["sum", "mean", "share"]


@dataclass(frozen=True, slots=True)
class Note:
    """One entry of ``Target.notes`` and how tables show it.

    ``name`` is its key in ``Target.notes`` and ``title`` the column's heading. ``how`` says how the targets of one arm
    and seed are taken together: ``sum``; ``mean`` over the targets that carry the note; or ``share``, in percent, of
    the total of the note ``of``, or where ``of`` is empty of the targets that carry it (the note is then 0 or 1).
    ``help`` completes "title: ..." under the table. ``against`` names a numeric option of the method: ``dasd-bench
    plot --kind notes`` draws the note against it. ``shown`` False leaves the column to ``diagnose``, CSV and JSON.
    """

    name: str
    title: str
    how: How = "sum"
    help: str = ""
    of: str = ""
    against: str = ""
    shown: bool = True


def check_notes(notes: object, options: set[str], where: str) -> None:
    """Checks what a method declares; raises :class:`PluginError` that starts with ``where``."""
    if not isinstance(notes, tuple) or not all(isinstance(note, Note) for note in notes):
        raise PluginError(f"{where} must have a tuple of Note(...) as its notes.")
    names = [note.name for note in notes]
    for note in notes:
        it = f"{where}: note '{note.name}'"
        texts = (note.name, note.title, note.how, note.help, note.of, note.against)
        if not all(isinstance(text, str) for text in texts) or not isinstance(note.shown, bool):
            raise PluginError(f"{it} has a field of the wrong type: all are text but shown, which is True or False.")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", note.name):
            raise PluginError(f"{it} needs a name of letters, digits and underscores.")
        if not note.title.strip():
            raise PluginError(f"{it} needs a title, the heading of its column.")
        if note.how not in get_args(How):
            raise PluginError(f"{it} has how='{note.how}'; use {', '.join(get_args(How))}.")
        if note.of and note.how != "share":
            raise PluginError(f"{it} has of='{note.of}', which belongs to how='share' only.")
        if note.against and note.against not in options:
            raise PluginError(f"{it} has against='{note.against}', which is no numeric option of the method.")
        if names.count(note.name) > 1:
            raise PluginError(f"{it} is declared twice.")
