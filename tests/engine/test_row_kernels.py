"""The compiled kernels over rows, and the overrides that use them, against plain torch and transformers' modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama import modeling_llama
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from dasd_bench.engine.kernels.rows import RowKernels, load_row_kernels
from dasd_bench.engine.linears import GatedBlock, PackedLinear
from dasd_bench.engine.module_overrides import ModuleOverrides, Rotation, RowNorm
from dasd_bench.engine.vocabulary import Vocabulary
from tests.engine.conftest import KINDS, pair

DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture
def kernels() -> RowKernels:
    found = load_row_kernels(torch.device("cpu"), torch.float32)
    if found is None:
        pytest.skip("no C++ compiler here")
    return found


@pytest.mark.parametrize("shape", [(1, 7), (3, 1000), (5, 4099), (40, 49152)])
@pytest.mark.parametrize("normalise", [False, True])
def test_summary_equals_float64(kernels, shape, normalise):
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 6
    logits[-1, 3:5] = logits.max() + 1  # a tie: the first counts
    logits[0, 0] = float("-inf")
    exact = logits.double()
    logp = exact.log_softmax(-1)
    lse, top, entropy = kernels.summarise(logits, normalise)
    np.testing.assert_allclose(lse, exact.logsumexp(-1), rtol=1e-6)
    np.testing.assert_allclose(entropy, -(logp.exp() * logp.clamp(min=-1e30)).sum(-1), rtol=2e-5, atol=1e-6)
    assert top.tolist() == exact.argmax(-1).tolist()
    assert top[-1] == 3
    np.testing.assert_allclose(logits, logp if normalise else exact, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_summary_of_no_numbers_is_not_finite(kernels, bad):
    logits = torch.zeros(3, 2000)
    logits[1, 1500] = bad
    lse, top, _ = kernels.summarise(logits, False)
    assert torch.isfinite(lse).tolist() == [True, False, True]
    assert (top < 2000).all()
    lse, top, _ = kernels.summarise(torch.full((1, 5), float("-inf")), False)
    assert not torch.isfinite(lse).any()


def test_summaries_with_and_without_the_kernels_are_equal(kernels):
    logits = torch.randn(9, 5000, generator=torch.Generator().manual_seed(2)) * 4
    one, other = Vocabulary(kernels).summary(logits), Vocabulary(None).summary(logits)
    for mine, theirs in ((one.normaliser, other.normaliser), (one.entropy, other.entropy)):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    assert one.top.tolist() == other.top.tolist()
    here, there = logits.clone(), logits.clone()
    Vocabulary(kernels).normalise(here)
    Vocabulary(None).normalise(there)
    torch.testing.assert_close(here, there, rtol=1e-6, atol=2e-6)
    # Every second row is no contiguous array: torch's own way is taken.
    assert Vocabulary(kernels).summary(logits[::2]).top.tolist() == one.top[::2].tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [LlamaRMSNorm, Gemma2RMSNorm])
def test_norm_equals_the_models(kernels, dtype, kind):
    torch.manual_seed(3)
    norm = kind(576).to(dtype)
    norm.weight.data.normal_()
    root = nn.Sequential(norm)
    hidden = torch.randn(2, 65, 576).to(dtype)
    wanted = norm(hidden)
    with torch.inference_mode(), ModuleOverrides(root, kernels).active():
        assert isinstance(root[0], RowNorm)
        # One unit in the last place of bfloat16, of float32 a few.
        torch.testing.assert_close(root[0](hidden), wanted, rtol=8e-3 if dtype == torch.bfloat16 else 1e-6, atol=1e-6)
        transposed = hidden.transpose(0, 1)
        torch.testing.assert_close(root[0](transposed), root[0](hidden).transpose(0, 1), rtol=0, atol=0)
    assert root[0] is norm


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotary_positions_equal_transformers(kernels, dtype):
    torch.manual_seed(4)
    original = modeling_llama.apply_rotary_pos_emb
    query, key = (torch.randn(1, 37, heads, 64).to(dtype).transpose(1, 2) for heads in (9, 3))
    angles = torch.rand(1, 37, 64) * 6  # not the same in both halves, as they are in a model
    cosine, sine = angles.cos().to(dtype), angles.sin().to(dtype)
    rotation = Rotation(kernels, original)
    with torch.inference_mode():
        for wanted, found in zip(original(query, key, cosine, sine), rotation(query, key, cosine, sine), strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0 if dtype == torch.bfloat16 else 1e-6)
    # What it does not know it hands on: two sequences, a part of the width, gradients.
    two = [tensor.expand(2, *tensor.shape[1:]) for tensor in (query, key, cosine, sine)]
    with torch.inference_mode():
        torch.testing.assert_close(rotation(*two), original(*two), rtol=0, atol=0)
    live = query.clone().requires_grad_()
    assert rotation(live, key, cosine, sine)[0].requires_grad


def test_rotary_positions_are_the_models_own_again_afterwards(kernels):
    model, _ = pair("llama")
    original = modeling_llama.apply_rotary_pos_emb
    overrides = ModuleOverrides(model, kernels)
    with overrides.active():
        assert isinstance(modeling_llama.apply_rotary_pos_emb, Rotation)
        with ModuleOverrides(model, kernels).active():
            pass
    assert modeling_llama.apply_rotary_pos_emb is original


class Halved(LlamaRMSNorm):
    """Looks like a known norm and is none."""

    def forward(self, hidden_states):
        return super().forward(hidden_states) / 2


class OtherBlock(nn.Module):
    """Has the names of a gated block and another formula."""

    def __init__(self):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(32, 64, bias=False), nn.Linear(32, 64, bias=False)
        self.down_proj, self.act_fn = nn.Linear(64, 32, bias=False), nn.SiLU()

    def forward(self, hidden):
        return self.down_proj(self.act_fn(self.gate_proj(hidden)) * (self.up_proj(hidden) + 1))


def test_what_only_looks_alike_keeps_its_own_code(kernels):
    root = nn.Sequential(Halved(32), OtherBlock())
    own, block = root[0], root[1]
    with ModuleOverrides(root, kernels).active():
        assert root[0] is own
        assert root[1] is block
        assert isinstance(block.up_proj, PackedLinear)
    assert isinstance(block.up_proj, nn.Linear)


@pytest.mark.parametrize("kind", KINDS)
def test_tiny_models_run_on_the_stand_ins(kind, kernels):
    model, _ = pair(kind)
    layer = model.model.layers[0]
    with ModuleOverrides(model, kernels).active():
        assert isinstance(layer.mlp, GatedBlock)
        assert isinstance(layer.input_layernorm, RowNorm)
    assert not isinstance(layer.mlp, GatedBlock)
