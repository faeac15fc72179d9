"""Adapters in bfloat16: base and adapter are added in one rounding, so that a small update is what it is in float32."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

from dasd_bench.engine import Engine, EngineSettings, ScoreRequest
from dasd_bench.engine.adapters import OnceRounded
from tests.engine.conftest import pair, random_prompts

REQUESTS = [ScoreRequest(ids[:4], ids[4:]) for ids in random_prompts(6, low=30, high=60)]


def adapted(model, size, **options):
    """The model with random adapters whose update has the standard deviation ``size``; the same at every call."""
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = get_peft_model(copy.deepcopy(model), LoraConfig(r=4, target_modules="all-linear", **options))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
                factor = tuned.get_parameter(name.replace("lora_B", "lora_A"))
                parameter.mul_(size / float((parameter @ factor).std()))
    return tuned.eval()


def drift(tuned, base, accelerate):
    """Mean change of the targets' log-probabilities, per request."""
    settings = EngineSettings(accelerate=accelerate)
    after = Engine(tuned, pair("llama")[1], settings).score(REQUESTS)
    before = Engine(base, pair("llama")[1], settings).score(REQUESTS)
    return np.array([(a.logp - b.logp).mean() for a, b in zip(after, before, strict=True)])


def direction(found, wanted):
    """How much of ``wanted`` is in ``found``: 1 where they are equal."""
    return float(found @ wanted / (wanted @ wanted))


@pytest.mark.parametrize("accelerate", ["auto", "off"])
def test_one_rounding_is_nearer_to_float32_than_two(accelerate):
    """Layer by layer, where nothing else rounds: the mean of many outputs keeps an update below half a step."""
    torch.manual_seed(0)
    base = torch.nn.Linear(64, 64, bias=True).to(torch.bfloat16)
    with torch.no_grad():
        base.bias.fill_(8.0)
    a, b = torch.randn(2, 64) * 0.05, torch.randn(64, 2) * 0.02
    rows = (torch.randn(20_000, 64) + 0.3).to(torch.bfloat16)
    term = torch.nn.functional.linear(torch.nn.functional.linear(rows.double(), a.double()), b.double())
    exact = torch.nn.functional.linear(rows.double(), base.weight.double(), base.bias.double())
    with torch.inference_mode():
        once = OnceRounded(base, [(a, b, 1.0)], accelerate == "auto")(rows).double() - exact
        twice = (base(rows) + term.to(torch.bfloat16)).double() - exact
        merged = torch.nn.Linear(64, 64).to(torch.bfloat16)
        merged.weight.copy_((base.weight.double() + b.double() @ a.double()).to(torch.bfloat16))
        merged.bias.copy_(base.bias)
        lossy = merged(rows).double() - exact
    wanted = term.mean(dim=0)
    kept = [direction(found.mean(dim=0), wanted) for found in (once, twice, lossy)]
    assert kept[0] == pytest.approx(1.0, abs=0.1)
    assert abs(kept[1] - 1) > 2 * abs(kept[0] - 1)


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_a_small_update_drifts_alike_in_both_dtypes(kind):
    base = pair(kind)[0]
    half = copy.deepcopy(base).to(torch.bfloat16)
    wide = copy.deepcopy(half).float()
    wanted = drift(adapted(wide, 2e-3), wide, "auto")
    tuned = adapted(wide, 2e-3)
    tuned.get_base_model().to(torch.bfloat16)
    found = drift(tuned, half, "auto")
    merged = drift(copy.deepcopy(tuned).merge_and_unload(), half, "auto")
    assert direction(found, wanted) == pytest.approx(1.0, abs=0.35)
    assert np.linalg.norm(found - wanted) < np.linalg.norm(merged - wanted)


@pytest.mark.parametrize("accelerate", ["auto", "off"])
def test_the_model_is_left_as_it_was(accelerate):
    tuned = adapted(copy.deepcopy(pair("llama")[0]).to(torch.bfloat16), 1e-2)
    modules = [id(module) for module in tuned.modules()]
    engine = Engine(tuned, pair("llama")[1], EngineSettings(accelerate=accelerate))
    engine.score(REQUESTS)
    assert [id(module) for module in tuned.modules()] == modules


def test_layers_that_keep_weights_transposed():
    torch.manual_seed(0)
    size = len(pair("llama")[1])
    base = GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=48, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=1))
    tuned = adapted(base.eval(), 5e-2, fan_in_fan_out=True)
    wanted = Engine(copy.deepcopy(tuned), pair("llama")[1]).score(REQUESTS)
    found = Engine(tuned.to(torch.bfloat16), pair("llama")[1]).score(REQUESTS)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.logp, other.logp, atol=0.2)
