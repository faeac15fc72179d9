"""SmolLM2-135M-Instruct in the engine: the fast path is the one that runs, and gives what transformers gives."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dasd_bench.engine.engine import Engine
from dasd_bench.engine.requests import GenerateRequest, ScoreRequest

TEXT = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_fast_path_is_taken_and_agrees(smollm2, dtype):
    """In bfloat16 the hidden states of single special tokens are far off on any path: that once sent the whole model
    back to transformers' own."""
    tokenizer = AutoTokenizer.from_pretrained(smollm2.path)
    model = AutoModelForCausalLM.from_pretrained(smollm2.path, dtype=dtype).eval()
    engine = Engine(model, tokenizer)
    assert engine.describe()["attention"] == "packed"
    ids = tokenizer.encode(TEXT)
    (scores,) = engine.score([ScoreRequest(ids[:1], ids[1:])])
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, :-1].float()
    wanted = logits.log_softmax(-1).gather(1, torch.tensor(ids[1:]).unsqueeze(1)).squeeze(1)
    tolerance = 1e-3 if dtype == torch.float32 else 0.5
    torch.testing.assert_close(torch.from_numpy(scores.logp), wanted, rtol=0, atol=tolerance)
    if dtype == torch.float32:
        (made,) = engine.generate([GenerateRequest(ids, 12, frozenset())])
        with torch.inference_mode():
            out = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, eos_token_id=[])
        assert made.token_ids.tolist() == out[0, len(ids) :].tolist()
