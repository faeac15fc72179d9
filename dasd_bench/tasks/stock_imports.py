"""Lets the modules beside lm-eval's task YAMLs be imported here: two of them refuse at import what we never call.

Both stand-ins hold only while a module is imported. Nothing of lm-eval is changed or copied.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
from collections.abc import Iterator
from typing import Any

from dasd_bench.errors import PluginError

ANTLR = "antlr4-python3-runtime"


class _HubMetric:
    """Stands for a metric that a task's module would load from the hub; answers only while the module is imported."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.importing = True

    def compute(self, **_: Any) -> tuple[dict[str, float], dict[str, Any]]:
        """Nothing of use: the self-test that lm-eval's code tasks run at import only has to come back."""
        if self.importing:
            return {"pass@1": math.nan}, {}
        raise PluginError(f"The package evaluate's '{self.name}' is never loaded; give the task its own executor.")


@contextlib.contextmanager
def no_hub_metrics() -> Iterator[None]:
    """Keeps ``evaluate.load`` from the hub while a task's module is imported (lm-eval's code tasks call it there)."""
    import evaluate

    load, made = evaluate.load, []

    def stand_in(name: str, *_: Any, **__: Any) -> _HubMetric:
        made.append(_HubMetric(name))
        return made[-1]

    evaluate.load = stand_in
    try:
        yield
    finally:
        evaluate.load = load
        for metric in made:
            metric.importing = False


@contextlib.contextmanager
def any_antlr() -> Iterator[None]:
    """Tells lm-eval's ``minerva_math`` module, while it is imported, that the ANTLR runtime is the 4.11 it asks for.

    It asks because sympy's own LaTeX parser works with 4.11 alone; math-verify brings 4.13. Its prompt, shots and
    normalisation, which are all that is used here, need neither. A call of sympy's parser checks again and refuses.
    """
    version = importlib.metadata.version

    def stand_in(distribution_name: str) -> str:
        return "4.11.1" if distribution_name == ANTLR else version(distribution_name)

    importlib.metadata.version = stand_in
    try:
        yield
    finally:
        importlib.metadata.version = version
