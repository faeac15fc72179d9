"""A seeded run of 50 steps per rule against frozen losses: a change of results must be meant.

``python -m tests.training.test_drift`` writes the file anew.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from tests.training.helpers import RULES, make_examples, metrics, run, soft_model

FROZEN = Path(__file__).with_name("drift.json")
STEPS = (0, 9, 24, 49)


def losses(rule: str, out: Path) -> list[float]:
    examples = make_examples(10, seed=9, longest=12)
    run(soft_model("llama"), examples, out, RULES[rule], batch_size=2, epochs=10, schedule="cosine", warmup=0.1)
    lines = metrics(out)
    assert len(lines) == 50
    return [lines[step]["loss"] for step in STEPS]


@pytest.mark.parametrize("rule", sorted(RULES))
def test_losses_have_not_drifted(rule: str, tmp_path: Path) -> None:
    assert losses(rule, tmp_path) == pytest.approx(json.loads(FROZEN.read_text())[rule], rel=1e-4)


def freeze() -> None:
    """Writes the frozen values."""
    values = {}
    for rule in sorted(RULES):
        with tempfile.TemporaryDirectory() as folder:
            values[rule] = losses(rule, Path(folder))
    FROZEN.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    freeze()
