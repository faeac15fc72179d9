"""The viewer's pages by address: the list, a run's tables, its report, its answers, the comparison of two rows."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dasd_bench import __version__
from dasd_bench.console import format_seconds
from dasd_bench.errors import DasdError
from dasd_bench.reporting.compare import compare_sides, pair_sides
from dasd_bench.reporting.entries import entries
from dasd_bench.reporting.plots import Source
from dasd_bench.reporting.question import question_start
from dasd_bench.reporting.report import report_page
from dasd_bench.reporting.report.page import run_facts
from dasd_bench.reporting.show import run_tables
from dasd_bench.reporting.view.answers import answers_page
from dasd_bench.reporting.view.catalog import WORKING, Catalog, Listed, Stamp, file_stamp
from dasd_bench.results.progress import Progress
from dasd_bench.results.runs import load_run
from dasd_bench.results.schema import RunResults

KEPT_REPORTS = 8
"""Reports kept in memory, the latest used; each has a few MB."""

CHANGED_ITEMS = 20

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent: text, its media type, and headers of its own."""

    text: str
    kind: str = "text/html"
    headers: dict[str, str] = field(default_factory=dict)


class Pages:
    """Makes the pages. ``online_methods`` names the methods of a run that does not say which decide weights online."""

    def __init__(
        self, catalog: Catalog, online_methods: Callable[[list[Source]], Collection[str]] = lambda _: ()
    ) -> None:
        self.catalog = catalog
        self._online_methods = online_methods
        self._reports: OrderedDict[Path, tuple[Stamp, str]] = OrderedDict()
        # matplotlib's settings belong to the process: one report is drawn at a time.
        self._drawing = threading.Lock()

    def answer(self, path: str, query: Query) -> Answer | None:
        """The page at ``path``; None where there is none. Raises :class:`DasdError` for what cannot be shown."""
        if path == "/":
            return self._list()
        if path == "/runs.json":
            return Answer(json.dumps([_as_json(run) for run in self.catalog.runs()]), "application/json")
        if path == "/compare":
            return self._compare(dict(query))
        parts = path.strip("/").split("/")
        run = self.catalog.find(parts[1]) if parts[0] == "run" and len(parts) in (2, 3) else None
        if run is None:
            return None
        if len(parts) == 2:
            return self._run(run)
        if parts[2] == "report":
            return self._report(run)
        if parts[2] == "answers":
            return self._html("answers.html.j2", run=run, page=answers_page(run.path, query), title=run.name)
        return None

    def failed(self, why: str) -> Answer:
        """A page that says why there is no other."""
        return self._html("failed.html.j2", title="Not shown", why=why)

    def _list(self) -> Answer:
        runs = self.catalog.runs()
        return self._html(
            "list.html.j2",
            title="Runs",
            runs=runs,
            several=len({run.group for run in runs}) > 1,
            roots=[str(root) for root in self.catalog.roots],
        )

    def _run(self, run: Listed) -> Answer:
        if not run.has_results:
            return self._html("run.html.j2", title=run.name, run=run, facts=None, tables=[], notes=[], rows=[])
        results = load_run(run.path)
        shown = results.status != "cancelled"
        tables = run_tables([results]) if shown and _has_scores(results) else []
        notes = [*results.warnings, *results.notes]
        facts = run_facts(Source(run.path, results))
        return self._html(
            "run.html.j2", title=run.name, run=run, facts=facts, tables=tables, notes=notes, rows=_labels(results)
        )

    def _report(self, run: Listed) -> Answer:
        stamp = file_stamp(run.path)
        with self._drawing:
            known = self._reports.pop(run.path, None)
            if known is None or known[0] != stamp:
                sources = [Source(run.path, load_run(run.path))]
                known = stamp, report_page(sources, online_methods=self._online_methods(sources), home="/")
            self._reports[run.path] = known
            while len(self._reports) > KEPT_REPORTS:
                self._reports.popitem(last=False)
        return Answer(known[1])

    def _compare(self, query: dict[str, str]) -> Answer | None:
        sides = [self.catalog.find(query.get(name, "")) for name in ("a", "b")]
        if sides[0] is None or sides[1] is None:
            return None
        labels = [_labels(load_run(side.path)) if side.has_results else [] for side in (sides[0], sides[1])]
        rows = [query.get("row_a", ""), query.get("row_b", "")]
        problem, found = "", []
        try:
            pairs = pair_sides((sides[0].path, rows[0]), (sides[1].path, rows[1]))
            found = [compare_sides(a, b, CHANGED_ITEMS) for a, b in pairs]
        except DasdError as error:
            problem = str(error)
        return self._html(
            "compare.html.j2",
            title=f"{sides[0].name} and {sides[1].name}",
            sides=list(zip("ab", sides, labels, rows, strict=True)),
            runs=[run for run in self.catalog.runs() if run.has_results],
            found=found,
            problem=problem,
        )

    def _html(self, template: str, **values: Any) -> Answer:
        nonce = secrets.token_urlsafe(16)
        folder = resources.files("dasd_bench.reporting")
        style = "".join((folder / name).read_text(encoding="utf-8") for name in ("report/report.css", "view/view.css"))
        text = (
            _environment()
            .get_template(template)
            .render(
                style=style,
                script=(folder / "view" / "view.js").read_text(encoding="utf-8"),
                nonce=nonce,
                version=__version__,
                working=WORKING,
                **values,
            )
        )
        policy = (
            f"default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        return Answer(text, headers={"Content-Security-Policy": policy})


def _environment() -> Any:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader(
            [PackageLoader("dasd_bench.reporting.view", "."), PackageLoader("dasd_bench.reporting.report", ".")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["when"] = when
    environment.filters["progress_text"] = progress_text
    environment.filters["progress_share"] = progress_share
    environment.filters["question"] = lambda prompt: prompt[question_start(prompt) :].strip()
    environment.filters["quoted"] = lambda text: quote(text, safe="")
    return environment


def _has_scores(results: RunResults) -> bool:
    return any(entry.scores(task.name) for entry in entries(results) for task in results.tasks)


def _labels(results: RunResults) -> list[str]:
    return [entry.label for entry in entries(results)]


def when(seconds: float) -> str:
    """A time since the epoch in this machine's time: ``2026-11-26 19:20``."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M") if seconds else ""


def progress_text(progress: Progress | None) -> str:
    """Where a run is, in one line: ``stage 3 of 22, evaluate gsm8k, dasd seed 0: 12/50 items, about 4m10s left``."""
    if progress is None:
        return "starting"
    place = f"stage {progress.number} of {progress.of}" if progress.of else ""
    text = ", ".join(part for part in (place, progress.stage, progress.who) if part)
    if progress.total:
        text += f": {progress.done:,}/{progress.total:,} {progress.unit}"
    if progress.tokens_per_second:
        text += f", {progress.tokens_per_second:,.0f} tok/s"
    left = progress.seconds_left or progress.stage_seconds_left
    return text + (f", about {format_seconds(left)} left" if left else "")


def progress_share(progress: Progress | None) -> float:
    """The finished share of a run's stages, from 0 to 1; the running one counts by its items."""
    if progress is None or not progress.of:
        return 0.0
    within = min(1.0, progress.done / progress.total) if progress.total else 0.0
    return min(1.0, max(0.0, (progress.number - 1 + within) / progress.of))


def _as_json(run: Listed) -> dict[str, Any]:
    """What a list that is open needs to stay true."""
    working = run.status == WORKING
    return {
        "key": run.key,
        "name": run.name,
        "status": run.status,
        "changed": when(run.changed),
        "progress": progress_text(run.progress) if working else "",
        "share": round(progress_share(run.progress), 4),
        "silent_seconds": round(time.time() - run.progress.updated) if working and run.progress else None,
    }
