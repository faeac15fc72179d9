"""What methods count of their own targets, as columns: tables know no method, each note brings its heading."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from dasd_bench.reporting.entries import entries
from dasd_bench.reporting.format import count, number, percent
from dasd_bench.reporting.table import Column
from dasd_bench.results.schema import Arm, NoteStats, RunResults, TargetStats


def declared_notes(results: Sequence[RunResults], hows: Iterable[str] = ("sum", "mean", "share")) -> list[NoteStats]:
    """The first of every note that an arm has, by name, of the kinds in ``hows``."""
    found: dict[str, NoteStats] = {}
    for run in results:
        for entry in entries(run):
            for one in entry.seed_arms():
                for note in one.target_stats.notes if one.target_stats is not None else []:
                    if note.how in hows:
                        found.setdefault(note.name, note)
    return list(found.values())


def note_column(note: NoteStats) -> Column:
    """Its column, ``note:NAME``; the heading breaks before its last word."""
    title = f"{note.title} %" if note.how == "share" else note.title
    return Column(f"note:{note.name}", "\n".join(title.rsplit(" ", 1)), shown=note.shown)


def note_values(stats: Iterable[TargetStats], name: str) -> list[float]:
    """The note's values, one per seed that has any."""
    return [note.value for one in stats for note in one.notes if note.name == name and note.value is not None]


def note_text(note: NoteStats, value: float) -> str:
    """A value of the note as a table prints it."""
    if note.how == "sum":
        return count(value)
    return percent(value) if note.how == "share" else number(value)


def note_help(notes: Iterable[NoteStats]) -> str:
    """What the notes mean, one sentence each; empty where none has help."""
    return " ".join(f"{note.title[:1].upper()}{note.title[1:]}: {note.help}." for note in notes if note.help)


def note_mean(arm: Arm, name: str) -> float | None:
    """The note's mean over the arm's seeds; None where none has it."""
    found = note_values((one.target_stats for one in arm.seeds if one.target_stats is not None), name)
    return fmean(found) if found else None


def remarks(results: Sequence[RunResults]) -> list[str]:
    """What methods say of their rows, a sentence each."""
    return [f"{arm.label}: {arm.remark}." for run in results for arm in run.arms if arm.remark]
