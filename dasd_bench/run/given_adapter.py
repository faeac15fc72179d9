"""Adapters that were trained elsewhere (``--evaluate-adapter``): rows of the table that are only measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dasd_bench.config.spec import RunSpec, split_adapter
from dasd_bench.console import Console
from dasd_bench.errors import UsageError
from dasd_bench.files.text import expand_user, shown
from dasd_bench.methods.base import BASE
from dasd_bench.models.adapter_fit import AdapterFacts, adapter_facts, check_fit
from dasd_bench.models.aliases import load_aliases
from dasd_bench.models.resolve import ResolvedModel
from dasd_bench.results import schema
from dasd_bench.results.directory import folder_name
from dasd_bench.store.store import stage_key

ADAPTER = "adapter"
"""The method of such a row in ``results.json``."""


@dataclass(frozen=True, slots=True)
class GivenAdapter:
    """One adapter: to the stages that measure it, it stands where a finished train stage would."""

    label: str
    adapter: Path
    facts: AdapterFacts

    @property
    def arm(self) -> GivenAdapter:
        """Whom the stages that measure it work for."""
        return self

    @property
    def folder(self) -> str:
        """Its folder's name under ``arms/``."""
        return folder_name(self.label)

    @property
    def key(self) -> str:
        """What stands for its weights in keys: equal for equal bytes, wherever they are and whatever their name."""
        return stage_key(ADAPTER, 1, self.facts.sha256)

    def summary(self) -> schema.GivenAdapter:
        """What results and manifest keep of it."""
        facts = self.facts
        return schema.GivenAdapter(str(self.adapter), facts.sha256, facts.base, facts.line())


def given_adapters(
    spec: RunSpec, taken: Sequence[str], model: ResolvedModel | None, console: Console
) -> list[GivenAdapter]:
    """The adapters of a run, checked against its model where that is here; ``taken`` are the labels of its other rows.

    Raises :class:`UsageError` for two rows of one name, and :class:`ModelError` for an adapter that does not fit. Warns
    where the adapter names another known base model: its layers may have the same sizes.
    """
    found: list[GivenAdapter] = []
    for text in spec.adapters:
        label, given = split_adapter(text)
        folder = expand_user(given, "--evaluate-adapter")
        if label in (BASE, *taken, *(one.label for one in found)):
            raise UsageError(f"--evaluate-adapter {shown(text)}: there is a row '{label}' already; write NAME={given}.")
        if not folder.is_dir():
            raise UsageError(f"--evaluate-adapter {shown(text)}: there is no folder {shown(str(folder))}.")
        facts = adapter_facts(folder)
        if model is not None:
            check_fit(folder, model.path, spec.model)
        if foreign := _foreign_base(facts.base, spec.model):
            console.warn(
                f"Adapter '{label}' says that it was trained on {foreign}; this run evaluates it on {spec.model}."
            )
        found.append(GivenAdapter(label, folder.resolve(), facts))
    return found


def _foreign_base(base: str, model: str) -> str:
    """The base that an adapter names, where it is certainly another model than ``model``; else empty."""
    aliases = load_aliases()
    names = {name: {name.lower(), (alias.hub_id or name).lower()} for name, alias in aliases.items()}
    named = next((name for name, known in names.items() if base.lower() in known), None)
    run = next((name for name, known in names.items() if model.lower() in known), None)
    return base if named is not None and run is not None and named != run else ""
