"""``dasd-bench probe``: labels of tokens, and how well scores and rules tell corrections from style."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dasd_bench.cli.shared import (
    config_option,
    console_options,
    dry_run_option,
    output_option,
    settings_option,
    store_option,
)
from dasd_bench.cli.spec_options import spec_fields
from dasd_bench.config.resolve import build_spec
from dasd_bench.console import Console
from dasd_bench.run.options import RunOptions


@click.command("probe")
@spec_fields(
    *("model", "tasks", "methods", "seeds", "max_new_tokens", "chat_template", "dtype", "device", "data_dir"),
    *("offline", "plugins", "confirm_run_unsafe_code"),
)
@click.option(
    "-L",
    "--limit",
    type=click.IntRange(0),
    default=64,
    show_default=True,
    help="Training rows per task (the first N); 0 for all.",
)
@click.option(
    "--labels",
    type=click.Choice(("flip", "constructed")),
    default="flip",
    show_default=True,
    help="flip: force the base's token and the candidate at each disagreement, and grade both answers; constructed: "
    "answers edited by rules, whose corrections and changes of style are known.",
)
@click.option(
    "--per-example",
    type=click.IntRange(0),
    default=16,
    show_default=True,
    help="Disagreements tested per example, drawn with the seed; 0 for all.",
)
@click.option(
    "--continue",
    "continuation",
    type=click.Choice(("base", "reference")),
    default="base",
    show_default=True,
    help="The stream that continues after a forced token: the plain base, or the answer-aware stream.",
)
@click.option(
    "--prompt",
    type=click.Choice(("multi-turn", "guide")),
    default="multi-turn",
    show_default=True,
    help="The answer-aware prompt.",
)
@settings_option("Set an engine or method option: engine.max_num_seqs=8, dasd.rho=0.5.")
@config_option
@output_option("Folder", "probes/<name of the probe>")
@store_option
@dry_run_option
@console_options
def probe(
    limit: int,
    labels: str,
    per_example: int,
    continuation: str,
    prompt: str,
    settings: tuple[str, ...],
    config: Path | None,
    output: Path | None,
    store: Path | None,
    dry_run: bool,
    console: Console,
    **values: Any,
) -> int:
    """Label the tokens of rewrites as corrections, damage or neutral, and measure what separates them.

    Each score (base confidence, perplexity, how strongly the answer-aware stream insists, ...) and each rule of
    --method is judged by AUC and by precision and recall at equal replacement rates, by task and level. Reads training
    rows, never the test split. Writes tables, figures, labels and a page with the token viewer; the same command
    resumes.
    """
    from dasd_bench.reporting.plots.save import save
    from dasd_bench.reporting.plots.source import Plot
    from dasd_bench.reporting.plots.style import look
    from dasd_bench.reporting.probe import probe_figures, probe_page, probe_tables
    from dasd_bench.reporting.probe.tables import headline
    from dasd_bench.reporting.render import render
    from dasd_bench.reporting.show import print_tables
    from dasd_bench.results.directory import TABLES_FILE
    from dasd_bench.results.probe import REPORT_FILE
    from dasd_bench.run.plan import plan_lines
    from dasd_bench.run.probe import prepare_probe, run_probe
    from dasd_bench.run.stages.disagreements import ProbeSettings
    from dasd_bench.store.atomic import write_text

    given = {name: value for name, value in values.items() if value not in (None, ())}
    spec, registry = build_spec(None, config, settings, {**given, "train_limit": limit}, console)
    asked = ProbeSettings(labels, per_example, continuation, prompt)
    prepared = prepare_probe(spec, asked, registry, RunOptions(output=output, store=store), console)
    if dry_run:
        console.result(f"Plan of the probe {prepared.context.run_dir.name} with {spec.model}")
        console.result("\n".join(plan_lines(prepared.plan)), plan=prepared.plan)
        return 0
    try:
        results, tokens = run_probe(prepared)
    except KeyboardInterrupt:
        console.result("Interrupted. Finished stages and shards are kept; run the same command again to resume.")
        return 130
    folder = prepared.context.run_dir
    tables = probe_tables(results)
    write_text(folder / TABLES_FILE, render(tables, "md", notes=True))
    with look():
        drawn = [one for one in probe_figures(tokens) if isinstance(one, Plot)]
    for plot in drawn:
        save(plot, folder)
    write_text(folder / REPORT_FILE, probe_page(folder, results, tokens))
    print_tables(console, probe_tables(results, parts=console.json_events), notes=True)
    for line in headline(results):
        console.result(line)
    console.result(
        f"By task and level: {folder / TABLES_FILE}; page with the labelled tokens: {folder / REPORT_FILE}",
        folder=str(folder),
    )
    return 0
