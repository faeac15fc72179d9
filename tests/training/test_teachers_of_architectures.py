"""The base teacher is the untrained model whatever layers the adapter is on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dasd_bench.methods.base import Method
from dasd_bench.methods.context import LiveLogits
from tests.training.helpers import make_examples, run
from tests.training.test_architectures import CASES, fresh

pytestmark = pytest.mark.filterwarnings("ignore")

taught: list[Tensor] = []
live_logits: list[Tensor] = []


@dataclass(frozen=True)
class Watching(Method):
    name = "watching"
    summary = "keeps the teacher's logits"
    teacher = "base"

    def token_loss(self, live: LiveLogits) -> Tensor:
        taught.append(live.teacher_logits[0].clone())
        live_logits.append(live.logits.detach().clone())
        return live.nll()


@pytest.mark.parametrize("name", ["gpt2", "tied-head", "mixtral", "mamba", "bert-as-decoder"])
def test_the_base_teacher_is_the_untrained_model(name: str, tmp_path: Path) -> None:
    taught.clear()
    live_logits.clear()
    (example,) = make_examples(1, seed=1, masked=0.0)
    run(fresh(name), [example], tmp_path, Watching(), lora_targets=CASES[name][1], epochs=3, lr=0.1)
    ids = torch.tensor(np.concatenate([example.prompt_ids, example.target_ids]), dtype=torch.long)
    with torch.no_grad():
        wanted = fresh(name).eval()(input_ids=ids[None]).logits[0][len(example.prompt_ids) - 1 : -1].float()
    for found in taught:
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    assert float((live_logits[2] - wanted).abs().max()) > 1e-3
