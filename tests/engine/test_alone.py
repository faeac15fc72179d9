"""The engine needs nothing of the rest of the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("dasd_bench.") and not (name + ".").startswith("dasd_bench.engine."):
            raise ImportError(name + " is no part of the engine")

sys.meta_path.insert(0, Blocked())
"""


def run(program: str) -> str:
    """What ``program`` prints in a process where the rest of dasd_bench cannot be imported."""
    done = subprocess.run([sys.executable, "-c", BLOCKED + program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_types_and_errors_come_without_torch() -> None:
    assert run("import dasd_bench.engine.types, dasd_bench.engine.errors; print('torch' in sys.modules)") == "False"


def test_it_decodes_and_scores_alone() -> None:
    program = """
import torch
from dasd_bench.engine.engine import Engine
from dasd_bench.engine.requests import DualRequest, GenerateRequest, ScoreRequest
from dasd_bench.engine.types import Choice, Sampling
from tests.tiny_models import tiny_model, tiny_tokenizer

def reference(step):
    return Choice(step.reference_token, torch.ones_like(step.reference_token, dtype=torch.uint8))

tokenizer = tiny_tokenizer("llama")
engine = Engine(tiny_model("llama", tokenizer=tokenizer), tokenizer)
(made,) = engine.generate([GenerateRequest([5, 6, 7], 8, frozenset(), sampling=Sampling(1.0), seed=3)])
(dual,) = engine.dual_decode([DualRequest([5, 6], [7, 8], 6, frozenset())], reference)
(scores,) = engine.score([ScoreRequest([5, 6, 7], made.token_ids.tolist())])
(total,) = engine.loglikelihood([ScoreRequest([5, 6, 7], made.token_ids.tolist())])
print(len(made.token_ids), dual.origin.tolist(), abs(float(scores.logp.sum()) - total.logp) < 1e-3)
"""
    assert run(program) == "8 [1, 1, 1, 1, 1, 1] True"
