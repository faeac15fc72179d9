"""The leaderboard: one self-contained HTML page of all entries, sorted and filtered in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from dasd_bench import __version__
from dasd_bench.reporting.leaderboard.check import Checked
from dasd_bench.reporting.leaderboard.rows import leader_rows
from dasd_bench.results.directory import TABLES_FILE

COLUMNS = (
    ("method", "method"),
    ("model", "model"),
    ("task", "task"),
    ("score", "score"),
    ("change", "Δ base"),
    ("budget", "budget"),
    ("cost", "cost per seed"),
    ("entry", "entry"),
)
"""Key and title of every column."""


def leaderboard_page(checked: Sequence[Checked]) -> str:
    """The page as text; the same entries give the same text. Entries with problems are named and not ranked."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    sound = [one for one in checked if one.ok and one.results is not None]
    rows = leader_rows(
        [(one.entry.name, one.results, str(one.manifest.get("command", ""))) for one in sound if one.results]
    )
    environment = Environment(
        loader=PackageLoader("dasd_bench.reporting.leaderboard", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = resources.files("dasd_bench.reporting")
    style = [folder / "report" / "report.css", folder / "leaderboard" / "leaderboard.css"]
    return environment.get_template("leaderboard.html.j2").render(
        version=__version__,
        columns=COLUMNS,
        main=[row for row in rows if not row.apart],
        apart=[row for row in rows if row.apart],
        choices={name: list(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("model", "task", "method")},
        others=[one for one in checked if one.ok and one.results is None],
        refused=[one for one in checked if not one.ok],
        texts={one.entry.name: _tables(one) for one in checked if one.ok and one.results is None},
        style="".join(path.read_text(encoding="utf-8") for path in style),
        script=(folder / "leaderboard" / "leaderboard.js").read_text(encoding="utf-8"),
    )


def _tables(one: Checked) -> str:
    return (one.entry.path / TABLES_FILE).read_text(encoding="utf-8", errors="replace")
