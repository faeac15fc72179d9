"""Two contexts' distributions along one target, against the model's own logits."""

from __future__ import annotations

import pytest
import torch

from dasd_bench.engine.engine import Engine
from dasd_bench.engine.requests import EngineSettings, ScoreRequest
from tests.tiny_models import tiny_model, tiny_tokenizer


@pytest.mark.parametrize("accelerate", ["auto", "off"])
def test_both_distributions_are_those_of_the_models_own_forward_pass(accelerate: str) -> None:
    model = tiny_model("llama")
    engine = Engine(model, tiny_tokenizer("llama"), EngineSettings(accelerate=accelerate))  # type: ignore[arg-type]
    targets = [[30, 31, 32], [41] * 70]
    prompts = [([3, 20, 21], [3, 20, 21, 50, 51]), ([3, 25], [3, 60, 61, 62])]
    first, second = (
        [ScoreRequest(pair[which], target) for pair, target in zip(prompts, targets, strict=True)] for which in (0, 1)
    )
    done: list[int] = []

    def measure(a: torch.Tensor, b: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        assert a.exp().sum(-1) == pytest.approx(torch.ones(len(a)), abs=1e-5)
        return torch.stack([x.gather(-1, tokens[:, None])[:, 0] for x in (a, b)] + [a.argmax(-1).float()], -1)

    found = engine.compare_contexts(first, second, measure, on_result=lambda index, _: done.append(index))
    assert sorted(done) == [0, 1]
    for pair, target, rows in zip(prompts, targets, found, strict=True):
        assert rows.shape == (len(target), 3)
        for column, prompt in enumerate(pair):
            with torch.no_grad():
                logits = model(torch.tensor([prompt + target])).logits[0, len(prompt) - 1 : -1]
            wanted = logits.log_softmax(-1)[torch.arange(len(target)), torch.tensor(target)]
            assert rows[:, column] == pytest.approx(wanted.numpy(), abs=2e-4)
            if column == 0:
                assert (rows[:, 2] == logits.argmax(-1).numpy()).mean() > 0.95
