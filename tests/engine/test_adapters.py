"""Adapters in bfloat16: base and adapter are added in one rounding, so that a small update is what it is in float32."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

from dasd_bench.engine.adapters import OnceRounded
from dasd_bench.engine.engine import Engine
from dasd_bench.engine.requests import EngineSettings, ScoreRequest
from tests.engine.conftest import pair, random_prompts

REQUESTS = [ScoreRequest(ids[:4], ids[4:]) for ids in random_prompts(60, low=60, high=120)]


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


def scores(model):
    """Log-probabilities of all target tokens."""
    return np.concatenate([one.logp for one in Engine(model, pair("llama")[1]).score(REQUESTS)])


def kept(found, wanted):
    """How much of the change ``wanted`` is in ``found``: 1 where they are equal up to noise."""
    return float(found @ wanted / (wanted @ wanted))


@pytest.mark.parametrize("packed", [True, False])
def test_a_term_below_half_a_step_of_the_grid_is_kept(packed):
    """One layer whose large bias makes the grid coarse; over many outputs the rounding averages out."""
    torch.manual_seed(0)
    base = torch.nn.Linear(64, 64).to(torch.bfloat16)
    with torch.no_grad():
        base.bias.fill_(8.0)
    a, b = torch.randn(2, 64) * 0.02, torch.randn(64, 2) * 0.02
    rows = torch.randn(50_000, 64).to(torch.bfloat16)
    term = torch.nn.functional.linear(torch.nn.functional.linear(rows.float(), a), b)
    with torch.inference_mode():
        once = OnceRounded(base, [(a, b, 1.0)], packed)(rows).float() - base(rows).float()
        twice = (base(rows) + term.to(torch.bfloat16)).float() - base(rows).float()
    assert kept(once.flatten().numpy(), term.flatten().numpy()) == pytest.approx(1.0, abs=0.1)
    assert kept(twice.flatten().numpy(), term.flatten().numpy()) < 0.5


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_a_small_update_drifts_alike_in_both_dtypes(kind):
    """Updates of standard deviation 1e-4, as short trainings make; merged, about half of them is lost."""
    half = copy.deepcopy(pair(kind)[0]).to(torch.bfloat16)
    wide = copy.deepcopy(half).float()
    tuned = adapted(wide, 1e-4)
    wanted = scores(tuned) - scores(wide)
    for name, parameter in tuned.named_parameters():
        if "lora_" not in name:
            parameter.data = parameter.data.to(torch.bfloat16)
    before = scores(half)
    assert kept(scores(tuned) - before, wanted) == pytest.approx(1.0, abs=0.2)
    assert kept(scores(tuned.merge_and_unload()) - before, wanted) < 0.75


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
