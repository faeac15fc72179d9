"""Run in each of several processes, with torchrun's environment: trains tiny models for ``test_processes``."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from dasd_bench.console import Console
from dasd_bench.errors import TrainingError
from dasd_bench.methods.base import Method
from dasd_bench.training import adapter, trainer
from dasd_bench.training.batching import Row
from dasd_bench.training.distributed import Processes, joined
from dasd_bench.training.fsdp import Weights
from dasd_bench.training.rollouts import Decoding
from tests.tiny_models import tiny_tokenizer
from tests.training.helpers import BASE, RULES, make_examples, soft_model
from tests.training.test_rollouts import OnPolicy
from tests.training.test_token_losses import Anchored, Averaged, Distilled, taught

SETTINGS: dict[str, Any] = {"epochs": 2, "checkpoint_steps": 2, "schedule": "cosine", "microbatch_tokens": 64}


TAUGHT: dict[str, Method] = {m.name: m for m in (Anchored(), Averaged(), Distilled(), OnPolicy())}


class StopError(Exception):
    pass


def train_as(processes: Processes, out: Path, wish: dict[str, Any]) -> None:
    """One training run as ``wish`` says; what it left is in ``out``."""
    out.mkdir(exist_ok=True)
    examples = taught(11, 2, wish["teachers"]) if "teachers" in wish else make_examples(11, seed=2)
    if "silent" in wish:
        examples = [replace(e, weights=np.zeros_like(e.weights)) if i else e for i, e in enumerate(examples)]
    model = soft_model(wish.get("kind", "qwen3"))
    if "poison" in wish:
        examples[3].prompt_ids[0] = 299
        with torch.no_grad():
            model.get_input_embeddings().weight[299] = float("nan")
    original = trainer._Run.step

    def step(self: trainer._Run, number: int, rows: list[Row]) -> Any:
        if number == wish.get("stop_at"):
            raise StopError
        return original(self, number, rows)

    trainer._Run.step = step  # type: ignore[method-assign]
    try:
        trainer.train(
            model,
            examples,
            replace(BASE, **SETTINGS | wish.get("changes", {})),
            method={**RULES, **TAUGHT}[wish.get("rule", "dft")],
            seed=0,
            out_dir=out,
            console=Console(stream=io.StringIO()),
            max_length=512,
            base_model_name="org/base",
            processes=processes,
            sharded=bool(wish.get("sharded")),
            held_out=make_examples(4, seed=5, masked=0.0),
            decoding=Decoding(tiny_tokenizer(wish.get("kind", "qwen3")), frozenset({3})),
        )
    except StopError:
        return
    except TrainingError as error:
        (out / f"error-{processes.rank}.txt").write_text(str(error))
        return
    finally:
        trainer._Run.step = original  # type: ignore[method-assign]
    if wish.get("sharded"):
        kept = [len(Weights(model, processes).state()), len(adapter.whole_state(model, keep=processes.first))]
        (out / f"kept-{processes.rank}.json").write_text(json.dumps(kept))
    parts = sum(p.to_local().numel() for p in model.parameters() if isinstance(p.data, DTensor))
    (out / f"size-{processes.rank}.json").write_text(json.dumps([parts, sum(p.numel() for p in model.parameters())]))


def main(folder: Path, wishes: dict[str, dict[str, Any]]) -> None:
    """All runs one after the other: starting Python is what takes time."""
    with joined("cpu") as processes:
        for name, wish in wishes.items():
            train_as(processes, folder / name.split("/")[0], wish)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
