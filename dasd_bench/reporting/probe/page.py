"""A probe's page: its tables and figures, and the token viewer with the labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dasd_bench.reporting.plots.source import Plot
from dasd_bench.reporting.plots.style import look
from dasd_bench.reporting.probe.figures import probe_figures
from dasd_bench.reporting.probe.tables import headline, probe_tables
from dasd_bench.reporting.report.blocks import Blocks
from dasd_bench.reporting.report.page import Page, RunFacts, render_page
from dasd_bench.reporting.report.tokens import token_set
from dasd_bench.results.directory import ModelDirectory
from dasd_bench.results.probe import LABELS, LabelledToken, ProbeResults
from dasd_bench.results.targets_file import read_targets


def probe_page(folder: Path, results: ProbeResults, tokens: Sequence[LabelledToken]) -> str:
    """The whole page as text. Raises :class:`StoreError` naming the file of ``folder`` that is damaged."""
    blocks = Blocks()
    viewed = token_set(read_targets(ModelDirectory(folder)), blocks)
    viewed.pop("named")
    entry = {"run": results.name, "method": "labelled tokens", "seed": 0, "online": 0, "notes": [], "labels": LABELS}
    with look():
        drawn = probe_figures(tokens)
    about = {"Model": results.model, **{name.capitalize(): text for name, text in results.settings.items()}}
    manifest = [("probe", list(results.about.items()))]
    facts = RunFacts(results.name, "finished", results.about.get("command", ""), list(about.items()), manifest)
    page = Page(
        title=f"Probe {results.name}",
        runs=[facts],
        tables=probe_tables(results),
        figures=[one for one in drawn if isinstance(one, Plot)],
        missing=[one for one in drawn if not isinstance(one, Plot)],
        notes=[*headline(results), *results.warnings],
        tokens=[{**entry, **viewed}],
    )
    return render_page(page, blocks)
