"""The page: tables, figures, manifest and viewers put into one HTML file that asks for nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from dasd_bench import __version__
from dasd_bench.console import format_seconds
from dasd_bench.errors import UsageError
from dasd_bench.reporting.details import group_table
from dasd_bench.reporting.plots import KINDS, Nothing, Plot, Source, draw, inline_svg
from dasd_bench.reporting.render.machine import csv_text
from dasd_bench.reporting.report.answers import answer_sets
from dasd_bench.reporting.report.baselines import Compared, comparisons
from dasd_bench.reporting.report.blocks import Blocks
from dasd_bench.reporting.report.tokens import token_sets
from dasd_bench.reporting.show import run_tables
from dasd_bench.reporting.table import Table
from dasd_bench.results.runs import manifest_items, read_manifest
from dasd_bench.results.training_text import run_training_line

GROUPINGS = ("level", "subject", "seed")
SCRIPTS = ("page.js", "tables.js", "list.js", "tokens.js", "answers.js", "start.js")
"""The page's script, in this order."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the page's head says of a run: name, status, its command, and short facts as (name, value)."""

    name: str
    status: str
    command: str
    facts: list[tuple[str, str]]
    manifest: list[tuple[str, list[tuple[str, str]]]]


def report_page(
    sources: Sequence[Source],
    baseline: str = "base",
    online_methods: Collection[str] = frozenset(),
    home: str = "",
) -> str:
    """The whole page as text; the same run directories give the same text.

    ``online_methods`` are methods that decide weights on the live model, for runs that do not say so themselves.
    ``home`` is the address of the list that a page shown by a server goes back to.

    Raises :class:`DasdError` for runs that cannot be shown and :class:`StoreError` for a damaged file.
    """
    results = [source.results for source in sources]
    drawn = draw(sources, list(KINDS))
    blocks = Blocks()
    tokens, problems = token_sets(sources, blocks, online_methods)
    answers, more = answer_sets(sources, blocks)
    tables = run_tables(results, baseline)
    page = Page(
        title=_title(sources),
        baselines=comparisons(results, tables, baseline),
        runs=[run_facts(source) for source in sources],
        tables=tables,
        groupings=_groupings(sources),
        figures=[plot for plot in drawn if not isinstance(plot, Nothing)],
        missing=[one for one in drawn if isinstance(one, Nothing)],
        problems=[*problems, *more],
        notes=[note for one in results for note in (*one.warnings, *one.notes)],
        tokens=tokens,
        answers=answers,
        home=home,
    )
    return render_page(page, blocks)


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows. ``tokens`` and ``answers`` are the entries of the viewers' index."""

    title: str
    runs: list[RunFacts]
    tables: list[Table]
    figures: list[Plot]
    missing: list[Nothing]
    notes: list[str]
    tokens: list[dict[str, Any]]
    answers: list[dict[str, Any]] = field(default_factory=list)
    groupings: list[Table] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    home: str = ""
    baselines: list[Compared] = field(default_factory=list)
    """The scores against every row that can be the baseline, the one shown first marked as such."""

    @property
    def shown(self) -> Compared | None:
        """The comparison that the page opens with."""
        return next((one for one in self.baselines if one.shown), None)


def render_page(page: Page, blocks: Blocks) -> str:
    """The page as text, with the ``blocks`` that its viewers read."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    folder = resources.files("dasd_bench.reporting.report")
    # The file is read as text and escaped on output; templates and style are this package's own.
    environment = Environment(
        loader=PackageLoader("dasd_bench.reporting.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        title=page.title,
        home=page.home,
        verdict=page.shown.verdict if page.shown else [],
        baselines=page.baselines if len(page.baselines) > 1 else [],
        version=__version__,
        runs=page.runs,
        tables=page.tables,
        groupings=page.groupings,
        figures=[(plot, inline_svg(plot)) for plot in page.figures],
        missing=page.missing,
        problems=page.problems,
        notes=page.notes,
        index=_script_json(
            {
                "tokens": page.tokens,
                "answers": page.answers,
                "tables": [_table_data(table) for table in (*page.tables, *page.groupings)],
                "baselines": [
                    {"label": one.label, "verdict": " ".join(one.verdict), "shown": one.shown, **_table_data(one.table)}
                    for one in page.baselines
                ],
            }
        ),
        blocks=blocks.texts,
        has_tokens=bool(page.tokens),
        has_answers=bool(page.answers),
        style=(folder / "report.css").read_text(encoding="utf-8"),
        script="\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS),
    )


def _table_data(table: Table) -> dict[str, Any]:
    """What a table is sorted by and saved as: its columns' directions, the shown rows' values, all of it as CSV."""
    columns = table.shown()
    return {
        "key": table.key.replace(":", "-"),
        "directions": [column.direction for column in columns],
        "values": [
            [_finite(row.cell(column.key).value) for column in columns] for _, rows in table.groups() for row in rows
        ],
        "csv": csv_text([table]),
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _title(sources: Sequence[Source]) -> str:
    names = [source.results.run_id for source in sources]
    return names[0] if len(names) == 1 else f"{len(names)} runs: {', '.join(names)}"


def _groupings(sources: Sequence[Source]) -> list[Table]:
    found = []
    results = [source.results for source in sources]
    for by in GROUPINGS:
        if by == "seed" and all(len(one.seeds) < 2 for one in results):
            continue
        try:
            found.append(group_table(results, by))
        except UsageError:
            continue
    return found


def run_facts(source: Source) -> RunFacts:
    """What the head of a page says of a run; raises :class:`StoreError` for a damaged manifest."""
    run = source.results
    manifest = read_manifest(source.path)
    computed = sum(stage.seconds for stage in run.stages if not stage.reused)
    made = manifest.get("environment", {})
    git = made.get("git") or {}
    version = f"dasd-bench {made.get('dasd_bench', '?')}"
    if git:
        version += f", commit {str(git.get('commit', ''))[:10]}{' with changes' if git.get('dirty') else ''}"
    model = manifest.get("model", {})
    where = ", ".join(str(model[name]) for name in ("dtype", "device") if model.get(name))
    facts = [
        ("Model", f"{run.model}{f' ({where})' if where else ''}"),
        ("Methods", ", ".join(arm.label for arm in run.arms) or "none finished"),
        ("Tasks", ", ".join(f"{task.name} ({task.n_items} items)" for task in run.tasks)),
        ("Seeds", ", ".join(map(str, run.seeds)) or "none"),
        ("Training", run_training_line(run) or "not recorded"),
        ("Computed", f"{format_seconds(computed)} in all, the rest reused" if run.stages else "not recorded"),
        ("Made", str(manifest.get("created", "not finished"))[:16].replace("T", " ")),
    ]
    if manifest:
        facts.append(("By", version))
    return RunFacts(run.run_id, run.status, str(manifest.get("command", "")), facts, _sections(manifest))


def _sections(manifest: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The manifest's top-level entries: plain ones together first, then one section per object."""
    plain = {name: value for name, value in manifest.items() if not isinstance(value, (dict, list)) or not value}
    found = [("run", list(manifest_items(plain)))] if plain else []
    for name, value in manifest.items():
        if name in plain:
            continue
        # Lists of objects are spelt out here: the page has room, and the reader may look for one hash.
        spelt = {str(i): item for i, item in enumerate(value)} if isinstance(value, list) else value
        found.append((name, list(manifest_items(spelt))))
    return found


def _script_json(value: Any) -> str:
    """JSON that can stand inside a script element, whatever its strings hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
