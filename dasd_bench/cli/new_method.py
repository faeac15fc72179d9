"""``dasd-bench new-method NAME``: writes a method file that works as it is, to be edited."""

from __future__ import annotations

import re
from pathlib import Path

import click

from dasd_bench.console import Console
from dasd_bench.errors import UsageError
from dasd_bench.methods.base import BASE
from dasd_bench.store.atomic import write_text

TEMPLATE = '''"""{name}: describe what the method does and cite its paper."""

from dataclasses import dataclass

import numpy as np

from dasd_bench.api import Method, ScoredTarget, keep_option, option


@dataclass(frozen=True)
class {cls}(Method):
    """Weight 1 where the base gives the gold token a probability of at least ``floor``: edit this."""

    name = "{name}"
    summary = "One line for `dasd-bench list methods`."
    denominator = "kept"

    floor: float = option(0.05, help="Minimum base probability of a trained token.", minimum=0.0, maximum=1.0)
    keep: str = keep_option("end")

    # Targets other than the gold answer: define make_targets(self, examples, context). See docs/add-a-method.md.
    # Weights that follow the live model: set online = True and define online_weights(self, live).
    # Another loss than the nll: define token_loss(self, live); teacher = "base" gives live.teacher_logits.

    def select(self, scored: ScoredTarget) -> np.ndarray:
        """Static weights float32 [T], from base log-probabilities, entropy and rank of every target token."""
        likely = np.exp(scored.scores.logp) >= self.floor
        return (likely | self.keeps(scored.target)).astype(np.float32)
'''


@click.command("new-method")
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("my_methods"), show_default=True)
def new_method(name: str, folder: Path) -> None:
    """Write FOLDER/NAME.py, a working method to edit; use it with --plugins FOLDER."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise UsageError(
            f"'{name}' is not a valid method name; use lower-case letters, digits and dashes, starting with a letter."
        )
    if name == BASE:
        raise UsageError(f"'{BASE}' is reserved for the untrained model; choose another method name.")
    path = folder / f"{name.replace('-', '_')}.py"
    if path.exists():
        raise UsageError(f"{path} already exists; choose another name or edit it.")
    cls = "".join(part.capitalize() for part in name.split("-"))
    write_text(path, TEMPLATE.format(name=name, cls=cls))
    console = Console()
    console.result(f"Wrote {path}. Try it: dasd-bench run --method {name} --plugins {folder} --preset quick")
