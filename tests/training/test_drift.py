"""A seeded run of 50 steps per rule and per shipped method against frozen losses: a change of results must be meant.

``python -m tests.training.test_drift`` writes the file anew.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from dasd_bench.methods.base import Method
from dasd_bench.registry import discover
from dasd_bench.training.trainer import TrainExample
from dasd_bench.types import Example, Mark, ScoredTarget, Target, TokenScores
from tests.training.helpers import RULES, make_examples, metrics, run, soft_model

FROZEN = Path(__file__).with_name("drift.json")
STEPS = (0, 9, 24, 49)
COLUMNS = {"external", "rho-1", "rho-1-batch"}
"""Methods whose weights come with their own targets."""
SHIPPED = sorted(
    name for name, plugin in discover().methods.items() if name not in COLUMNS and not plugin.item.rollouts
)


def shipped(name: str) -> tuple[Method, list[TrainExample]]:
    """A shipped method at its defaults, and the examples as its ``select`` and ``keeps`` weigh them.

    dasd masks nothing at its defaults, so here it is its loss-mask.
    """
    method = discover().method(name).item(**({"rule": "loss-mask"} if name == "dasd" else {}))
    rng = np.random.default_rng(5)
    examples = []
    for plain in make_examples(10, seed=9, longest=12):
        n = len(plain.target_ids)
        logp = -rng.exponential(1.0, n).astype(np.float32)
        scores = TokenScores(
            logp,
            np.maximum(logp, -rng.exponential(0.1, n).astype(np.float32)),
            np.ones(n, dtype=np.float32),
            np.zeros(n, dtype=np.int32),
        )
        marks = np.zeros(n, dtype=np.uint8)
        marks[-1] = Mark.END
        target = Target(plain.example_id, plain.target_ids, marks * 0, marks, "", True, "gold")
        scored = ScoredTarget(Example(plain.example_id, "t", "q", "r"), target, scores)
        weights = np.asarray(method.select(scored), dtype=np.float32)
        examples.append(
            TrainExample(plain.example_id, plain.prompt_ids, plain.target_ids, weights, method.keeps(target))
        )
    return method, examples


def losses(name: str, out: Path) -> list[float]:
    if name.startswith("method "):
        method, examples = shipped(name.removeprefix("method "))
    else:
        method, examples = RULES[name], make_examples(10, seed=9, longest=12)
    run(soft_model("llama"), examples, out, method, batch_size=2, epochs=10, schedule="cosine", warmup=0.1)
    lines = metrics(out)
    assert len(lines) == 50
    return [lines[step]["loss"] for step in STEPS]


NAMES = [*sorted(RULES), *(f"method {name}" for name in SHIPPED)]


@pytest.mark.parametrize("name", NAMES)
def test_losses_have_not_drifted(name: str, tmp_path: Path) -> None:
    assert losses(name, tmp_path) == pytest.approx(json.loads(FROZEN.read_text())[name], rel=1e-4)


def test_selectors_are_told_apart() -> None:
    """The frozen examples make each selector choose: else a run could not tell a lost mask."""
    shares = {name: np.mean(np.concatenate([e.weights for e in shipped(name)[1]])) for name in SHIPPED}
    assert shares["sft"] == 1.0
    assert all(0.2 < shares[name] < 0.9 for name in ("low-ppl", "dasd"))


def freeze() -> None:
    """Writes the frozen values."""
    values = {}
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            values[name] = losses(name, Path(folder))
    FROZEN.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    freeze()
