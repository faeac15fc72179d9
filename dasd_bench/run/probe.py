"""A probe from its specification to its results: what tells corrections from style, in this model on these tasks?

Its stages go through the store like a run's: the same command resumes, and rewrites that a run of ``dasd`` or
``self-distill`` made are taken from there. Rows are training rows: the test split is not read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from dasd_bench import __version__
from dasd_bench.config.spec import RunSpec, arms, to_yaml
from dasd_bench.console import Console
from dasd_bench.errors import UsageError
from dasd_bench.methods.base import BASE
from dasd_bench.registry import Registry
from dasd_bench.results.directory import ModelDirectory
from dasd_bench.results.probe import SETTINGS_FILE, LabelledToken, Outcome, ProbeResults, save_probe
from dasd_bench.results.selectors import measured
from dasd_bench.results.targets_file import write_pieces, write_targets
from dasd_bench.run.artifacts import command_line
from dasd_bench.run.claim import Claim
from dasd_bench.run.context import RunContext
from dasd_bench.run.data import data_folder, train_tasks
from dasd_bench.run.labelled import labelled_tokens, viewed_targets
from dasd_bench.run.options import RunOptions
from dasd_bench.run.plan import PlanRow, make_plan, plan_lines
from dasd_bench.run.prepare import build_context, run_name
from dasd_bench.run.stages.base import Stage
from dasd_bench.run.stages.constructed import Constructed
from dasd_bench.run.stages.disagreements import ProbeSettings, ProbeTargets, Rewrites, TwoContexts
from dasd_bench.run.stages.flip_test import Flips, FlipTest
from dasd_bench.run.stages.targets import with_room
from dasd_bench.run.stages.warmup import warmed
from dasd_bench.store.atomic import digest
from dasd_bench.store.locks import FileLock
from dasd_bench.tasks.loading import examples_of, load_rows
from dasd_bench.types import Example


@dataclass(slots=True)
class ProbeGraph:
    """The stages of a probe; ``flips`` is None where labels are constructed."""

    texts: ProbeTargets
    views: TwoContexts
    flips: FlipTest | None

    def walk(self) -> Iterator[Stage[Any]]:
        """Every stage in order."""
        yield self.texts
        yield self.views
        if self.flips is not None:
            yield self.flips


@dataclass(frozen=True, slots=True)
class PreparedProbe:
    """A probe before its first stage."""

    context: RunContext
    settings: ProbeSettings
    examples: list[Example]
    graph: ProbeGraph
    plan: list[PlanRow]


def prepare_probe(
    spec: RunSpec, settings: ProbeSettings, registry: Registry, options: RunOptions, console: Console
) -> PreparedProbe:
    """Finds all that a probe needs and plans it; loads no weights.

    Raises :class:`UsageError` for what cannot be probed as asked, before anything is computed.
    """
    if spec.methods == (BASE,):
        raise UsageError("--method base has nothing to probe; name dasd with its rules, or selection methods.")
    arms(spec, registry)
    folder = options.output or probe_folder(spec, settings)
    _claim(folder, spec, settings).check()
    examples, key = load_examples(spec, registry, console)
    context = warmed(build_context(spec, registry, console, folder, options))
    examples, left_out = with_room(context, examples)
    if left_out:
        console.warn(f"{len(left_out)} prompts fill the model's context and were left out, such as {left_out[0]}.")
    seed = spec.seeds[0]
    texts: ProbeTargets
    if settings.labels == "constructed":
        texts = Constructed(context, None, examples, key, context.arms[0])
        flips = None
        views = TwoContexts(context, None, texts, settings.prompt)
    else:
        texts = rewrites = Rewrites(context, None, examples, key, context.arms[0], settings)
        views = TwoContexts(context, None, texts, settings.prompt)
        flips = FlipTest(context, seed, rewrites, views, settings)
    graph = ProbeGraph(texts, views, flips)
    return PreparedProbe(context, settings, examples, graph, make_plan(context, graph).rows)


def load_examples(spec: RunSpec, registry: Registry, console: Console) -> tuple[list[Example], str]:
    """The first ``train_limit`` training rows of each task as examples, and a hash of them and of the tasks' code."""
    examples: list[Example] = []
    keys = []
    for name in train_tasks(spec, registry):
        plugin = registry.task(name)
        if plugin.item.unsafe_code and not spec.confirm_run_unsafe_code:
            raise UsageError(
                f"Task '{name}' executes model-written code in the sandbox; allow it with --confirm-run-unsafe-code."
            )
        limit = spec.train_limit or None
        rows = load_rows(plugin.item, "train", data_dir=data_folder(spec), offline=spec.offline, limit=limit)
        examples += examples_of(plugin.item, rows, "train")
        keys.append((name, plugin.sha256, rows.sha256))
        console.say(f"[load] {name}: {len(rows.rows)} training rows from {rows.source}")
    return examples, digest(keys)


def run_probe(prepared: PreparedProbe) -> tuple[ProbeResults, list[LabelledToken]]:
    """Works off the stages under the folder's lock and writes the results there."""
    context, graph = prepared.context, prepared.graph
    started = time.monotonic()
    folder = context.run_dir
    context.console.say(plan_lines(prepared.plan)[-1])
    with FileLock(folder / ".lock", on_wait=context.console.notice):
        claim = _claim(folder, context.spec, prepared.settings)
        claim.take()
        if context.warmup is not None:
            context.warmup.run()
        for stage in graph.walk():
            stage.run()
        context.release()
        texts, views = graph.texts.value, graph.views.value
        flips = graph.flips.value if graph.flips is not None else None
        tokens = labelled_tokens(context, prepared.examples, texts, views, flips)
        if not tokens:
            raise UsageError(_why_none(prepared, len(texts)))
        for arm in context.arms:
            if arm.label not in tokens[0].replaced:
                context.console.warn(
                    f"{arm.label} decides about no token by the scores and weights of a rewrite, which is all that a "
                    "probe knows, so it is not in the tables."
                )
        claim.still_held()
        targets, labels = viewed_targets(context, prepared.examples, texts, views, flips)
        write_targets(ModelDirectory(folder), targets, {"labels": labels})
        write_pieces(ModelDirectory(folder), targets, context.tokenizer)
        counts, scores, selected = measured(tokens)
        results = ProbeResults(
            name=folder.name,
            model=context.spec.model,
            labels=prepared.settings.labels,
            settings=_shown_settings(prepared),
            counts=counts,
            outcomes=[] if flips is None else _outcomes(prepared.examples, flips),
            scores=scores,
            arms=selected,
            warnings=list(dict.fromkeys([*context.console.warnings, *_remarks(prepared, flips)])),
            about=_about(context),
            seconds=round(time.monotonic() - started, 1),
        )
        save_probe(folder, results, tokens)
    return results, tokens


def probe_folder(spec: RunSpec, settings: ProbeSettings) -> Path:
    """Where a probe is written by default."""
    return Path("probes") / f"{run_name(spec)}-{settings.labels}-{digest(asdict(settings))[:4]}"


def settings_text(spec: RunSpec, settings: ProbeSettings) -> str:
    """What a probe's folder says of how it was made: the specification, and the probe's own settings."""
    own = yaml.safe_dump({"probe": asdict(settings)}, sort_keys=False)
    return to_yaml(spec).replace("# Repeat this run: dasd-bench run -c spec.yaml\n", "") + own


def _claim(folder: Path, spec: RunSpec, settings: ProbeSettings) -> Claim:
    return Claim(folder, SETTINGS_FILE, settings_text(spec, settings), "a probe")


def _outcomes(examples: Sequence[Example], flips: Sequence[Flips]) -> list[Outcome]:
    task_of = {example.id: example.task for example in examples}
    found = []
    for task in dict.fromkeys(task_of.values()):
        mine = [one for one in flips if task_of[one.example_id] == task]
        if mine:
            found.append(
                Outcome(
                    task,
                    len(mine),
                    sum(one.base_right for one in mine),
                    sum(one.rewrite_right for one in mine),
                    sum(one.disagreements for one in mine),
                    sum(len(one.positions) for one in mine),
                )
            )
    return found


def _shown_settings(prepared: PreparedProbe) -> dict[str, str]:
    spec, settings = prepared.context.spec, prepared.settings
    found = {
        "tasks": ", ".join(dict.fromkeys(example.task for example in prepared.examples)),
        "rows": f"{len(prepared.examples)} training rows",
        "labels": settings.labels,
        "prompt": settings.prompt,
    }
    if settings.labels == "flip":
        found["continuation"] = settings.continuation
        found["per example"] = "all" if not settings.per_example else f"at most {settings.per_example}, drawn"
        found["seed"] = str(spec.seeds[0])
    return found


def _remarks(prepared: PreparedProbe, flips: Sequence[Flips] | None) -> list[str]:
    """What a reader must know: that not all disagreements were tested."""
    if flips is None:
        return []
    everything, tested = sum(one.disagreements for one in flips), sum(len(one.positions) for one in flips)
    if tested == everything:
        return []
    return [
        f"{tested} of {everything} disagreements were tested: at most {prepared.settings.per_example} of an example's, "
        f"drawn with seed {prepared.context.spec.seeds[0]} (--per-example 0 tests all)."
    ]


def _why_none(prepared: PreparedProbe, texts: int) -> str:
    if prepared.settings.labels == "constructed":
        return (
            f"No answer to the {len(prepared.examples)} rows could be edited: labels by construction need worked "
            "equations or Python programs; use --labels flip for other tasks, or more rows."
        )
    return (
        f"The two streams agree in all of {texts} rewrites, so there is nothing to label; use more rows (--limit) or "
        "another --prompt."
    )


def _about(context: RunContext) -> dict[str, str]:
    return {
        "command": command_line(),
        "version": __version__,
        "model sha256": context.model.sha256,
        "dtype": context.dtype,
        "device": context.device,
        "chat template": context.chat.hash,
    }
