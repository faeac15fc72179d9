"""One unit of work as it is sent to a node, and what the node does with it."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dasd_bench import errors
from dasd_bench.config.resolve import plugin_folders
from dasd_bench.config.spec import layer, resolve, to_yaml
from dasd_bench.console import Console
from dasd_bench.engine.errors import EngineError
from dasd_bench.errors import DasdError, StoreError, UsageError
from dasd_bench.files.yaml_file import parse_yaml
from dasd_bench.registry import discover
from dasd_bench.run.cluster.units import Unit
from dasd_bench.run.context import RunContext
from dasd_bench.run.options import RunOptions
from dasd_bench.run.prepare import PreparedRun, prepare_in
from dasd_bench.run.recorder import cpu_seconds, peak_memory_gib
from dasd_bench.run.stages.evaluate import Evaluate

MARK = ".shared-store"
"""A file in the store by which a node sees that it is the same store."""


@dataclass(frozen=True, slots=True)
class Versions:
    """Releases that must be equal on all nodes: a result depends on them."""

    python: str
    dasd_bench: str
    torch: str
    transformers: str
    lm_eval: str

    @classmethod
    def here(cls) -> Versions:
        """Those of this process."""
        names = ("dasd-bench", "torch", "transformers", "lm_eval")
        return cls(platform.python_version(), *map(version, names))


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """Everything that a node needs to compute one unit into the shared store.

    ``unit`` names the entry in the store, ``share`` the share of an evaluation (see :class:`Unit`). ``spec`` is the
    specification as YAML, with device and dtype named; ``folder`` is the working directory that its relative paths
    start from; ``mark`` is the content of the store's mark file.
    """

    unit: str
    share: tuple[int, int] | None
    title: str
    spec: str
    folder: str
    run_dir: str
    store: str
    mark: str
    processes: int
    parallel: str
    accept_licences: tuple[str, ...]
    versions: Versions


@dataclass(frozen=True, slots=True)
class Done:
    """A finished unit and what it cost."""

    seconds: float
    cpu_seconds: float
    peak_memory_gib: float
    host: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A unit that ended in an error: the name of its class in :mod:`dasd_bench.errors` and its sentence."""

    kind: str
    text: str

    def error(self) -> DasdError:
        """The error as it was raised on the node."""
        kind: type[DasdError] = getattr(errors, self.kind, DasdError)
        return kind(self.text)


Outcome = Done | Failed
Tell = Callable[[dict[str, Any]], None]
"""Takes the fields of a progress event."""


def blocked(unit: Unit, outcomes: Mapping[str, Outcome]) -> Failed | None:
    """The failure of a unit that cannot run since one that it needs has failed."""
    for need in unit.needs:
        outcome = outcomes.get(need.id)
        if isinstance(outcome, Failed):
            return outcome
    return None


def crashed(title: str, error: BaseException) -> Failed:
    """The failure of a unit that ended without a sentence of its own."""
    return Failed("DasdError", f"{title} crashed on its node: {' '.join(str(error).split())[-300:]}")


def order(context: RunContext, unit: Unit, mark: str) -> WorkOrder:
    """The order for ``unit`` of the run that ``context`` belongs to."""
    return WorkOrder(
        unit=unit.entry,
        share=unit.share,
        title=unit.title,
        spec=to_yaml(replace(context.spec, device=context.device, dtype=context.dtype)),
        folder=os.getcwd(),
        run_dir=str(context.run_dir.resolve()),
        store=str(context.store.root.resolve()),
        mark=mark,
        processes=context.processes,
        parallel=context.parallel,
        accept_licences=context.accept_licences,
        versions=Versions.here(),
    )


def work(given: WorkOrder, tell: Tell) -> Outcome:
    """Computes one unit on this node; an error of the project's own comes back as :class:`Failed`."""
    try:
        check_node(given)
        with contextlib.suppress(OSError):
            os.chdir(given.folder)
        prepared, console = _prepared(replace(given, unit="", share=None, title=""))
        console.tell = tell
        context = prepared.context
        stage = next((one for one in prepared.graph.walk() if f"{one.kind}/{one.key}" == given.unit), None)
        if stage is None:
            raise UsageError(
                f"{socket.gethostname()} would compute something else ({context.dtype} on {context.device}): it sees "
                "another model, other data, other plugins or another device than the machine that started the run."
            )
        missing = [need.name for need in stage.needs() if need.entry.finished() is None]
        if missing:
            raise DasdError(f"{missing[0]} has no result.")
        started, cpu = time.monotonic(), cpu_seconds()
        if given.share is not None and isinstance(stage, Evaluate):
            stage.make_share(given.share)
        else:
            stage.obtain()
    except EngineError as error:
        return Failed("DasdError", str(error))
    except DasdError as error:
        return Failed(type(error).__name__, str(error))
    return Done(time.monotonic() - started, cpu_seconds() - cpu, peak_memory_gib(), socket.gethostname())


def check_node(given: WorkOrder) -> None:
    """Raises where this node's packages differ from those of the run's machine, or it lacks the run's store."""
    here = Versions.here()
    for field in fields(Versions):
        own, wanted = getattr(here, field.name), getattr(given.versions, field.name)
        if own != wanted:
            raise UsageError(
                f"{socket.gethostname()} has {field.name.replace('_', '-')} {own}, but the run was started with "
                f"{wanted}; install the same release on every node."
            )
    path = Path(given.store) / MARK
    try:
        seen = path.read_text(encoding="utf-8")
    except OSError:
        seen = ""
    if seen != given.mark:
        raise StoreError(
            f"{socket.gethostname()} does not see the store {given.store}; choose a folder on a file system that all "
            "nodes share with --store."
        )


class _NodeConsole(Console):
    """Passes progress on and drops the rest: warnings are stored with the results and come up where those are read."""

    def __init__(self) -> None:
        super().__init__(quiet=True, stream=io.StringIO())
        self.tell: Tell = lambda fields: None

    def event(self, kind: str, *, text: str = "", **fields: Any) -> None:
        if kind == "progress":
            self.tell(fields)


@lru_cache(maxsize=1)
def _prepared(given: WorkOrder) -> tuple[PreparedRun, _NodeConsole]:
    """The run as this node prepares it; kept, since a node's next unit mostly belongs to the same run."""
    spec = resolve(layer("the run", parse_yaml(given.spec, "spec.yaml")))
    options = RunOptions(
        store=Path(given.store),
        processes=given.processes,
        parallel=given.parallel,
        accept_licences=given.accept_licences,
    )
    console = _NodeConsole()
    prepared = prepare_in(Path(given.run_dir), spec, discover(plugin_folders(spec)), options, console)
    return prepared, console
