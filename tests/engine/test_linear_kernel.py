"""The compiled product against float64, and the overrides that use it in whole models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import gelu, silu

from dasd_bench.engine.engine import Engine
from dasd_bench.engine.kernels.linear import Activation, LinearKernel, load_linear_kernel, pack, pack_gated
from dasd_bench.engine.linears import GatedBlock, PackedLinear, Packer, PanelLinear
from dasd_bench.engine.module_overrides import ModuleOverrides
from dasd_bench.engine.requests import GenerateRequest
from tests.engine.conftest import KINDS, pair, random_prompts

FOUND = load_linear_kernel(torch.device("cpu"), torch.float32)

pytestmark = pytest.mark.skipif(FOUND is None, reason="no C++ compiler or no AVX-512 here")

EXACT = [(Activation.SWISH, silu), (Activation.GELU_TANH, lambda x: gelu(x, approximate="tanh"))]
"""The activations and what they are in any precision."""

SHAPES = [(576, 192), (33, 50), (64, 1), (7, 100), (1536, 576)]
"""Inputs and outputs; panels are 32 wide."""


@pytest.fixture
def kernel() -> LinearKernel:
    assert FOUND is not None
    return FOUND


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def dtype(request, kernel) -> torch.dtype:
    if request.param not in kernel.dtypes:
        pytest.skip("no AVX-512 BF16 here")
    return request.param


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [0, 1, 13, 14, 15, 64, 600, 1100])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("biased", [False, True])
def test_product_equals_float64(kernel, dtype, rows, inputs, outputs, biased):
    inputs += inputs % 2 if dtype == torch.bfloat16 else 0
    hidden, weight = numbers(rows, inputs).to(dtype), numbers(outputs, inputs, seed=1).to(dtype)
    bias = numbers(outputs, seed=2).to(dtype) if biased else None
    exact = hidden.double() @ weight.double().T + (0 if bias is None else bias.double())
    found = kernel(hidden, pack(weight, bias))
    assert found.dtype == dtype
    rounding = 0 if dtype == torch.float32 else 2**-8
    np.testing.assert_allclose(found.double(), exact, atol=1.2e-5 * inputs**0.5, rtol=rounding)


@pytest.mark.parametrize("rows", [1, 30, 700])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("biased", [(False, False), (True, True), (False, True)])
@pytest.mark.parametrize(("activation", "exactly"), EXACT)
def test_gated_product_equals_float64(kernel, dtype, rows, inputs, outputs, biased, activation, exactly):
    inputs += inputs % 2 if dtype == torch.bfloat16 else 0
    hidden = (numbers(rows, inputs) / inputs**0.5).to(dtype)
    gate, other = numbers(outputs, inputs, seed=1).to(dtype), (3 * numbers(outputs, inputs, seed=2)).to(dtype)
    biases = [numbers(outputs, seed=3 + i).to(dtype) if has else None for i, has in enumerate(biased)]
    found = kernel(hidden, pack_gated(gate, other, *biases), activation)
    first, second = (
        hidden.double() @ weight.double().T + (0 if bias is None else bias.double())
        for weight, bias in zip((gate, other), biases, strict=True)
    )
    rounding = 2e-5 if dtype == torch.float32 else 2**-8
    np.testing.assert_allclose(found.double(), exactly(first) * second, atol=2e-5, rtol=rounding)


def test_activations_hold_far_from_zero(kernel):
    gate = torch.tensor([[-200.0, -60.0, -1e-3, 0.0, 1e-3, 60.0, 200.0, float("nan"), float("inf")]]).T
    ones = torch.ones(len(gate), 1)
    for activation, exactly in (
        (Activation.SWISH, silu),
        (Activation.GELU_TANH, lambda x: gelu(x, approximate="tanh")),
    ):
        found = kernel(ones[:1], pack_gated(gate, ones, None, None), activation)
        np.testing.assert_allclose(found[0], exactly(gate.double())[:, 0], atol=1e-12, rtol=1e-6)


@given(rows=st.integers(1, 130), row=st.integers(0, 129), seed=st.integers(0, 99), pairs=st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_row_does_not_depend_on_its_neighbours(rows, row, seed, pairs):
    assert FOUND is not None
    dtype = torch.bfloat16 if pairs and torch.bfloat16 in FOUND.dtypes else torch.float32
    hidden = numbers(rows, 96, seed=seed).to(dtype)
    panels = pack(numbers(130, 96, seed=100).to(dtype), numbers(130, seed=101).to(dtype))
    row %= rows
    assert torch.equal(FOUND(hidden, panels)[row], FOUND(hidden[row : row + 1], panels)[0])


def test_threads_change_no_bit(kernel):
    hidden, panels = numbers(300, 128), pack(numbers(70, 128, seed=1), None)
    found = kernel(hidden, panels)
    before = torch.get_num_threads()
    try:
        for count in (1, 3, 5):
            torch.set_num_threads(count)
            assert torch.equal(kernel(hidden, panels), found)
    finally:
        torch.set_num_threads(before)


def test_a_nan_stays_in_its_row(kernel):
    hidden = numbers(20, 64)
    hidden[4, 9] = float("nan")
    for kind in kernel.dtypes:
        found = kernel(hidden.to(kind), pack(numbers(40, 64, seed=1).to(kind), None))
        assert found[4].isnan().all()
        assert not found[[i for i in range(20) if i != 4]].isnan().any()


def test_shapes_and_strides_are_a_linear_layers(kernel):
    layer = nn.Linear(24, 40)
    hidden = numbers(24, 3, 5).permute(1, 2, 0)
    with torch.inference_mode():
        found = PanelLinear(layer, kernel)(hidden)
        assert found.shape == (3, 5, 40)
        torch.testing.assert_close(found, layer(hidden), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_tiny_models_run_on_the_kernel(kind, kernel):
    model, _ = pair(kind)
    layer = model.model.layers[0]
    block, own = layer.mlp, layer.self_attn.q_proj
    overrides = ModuleOverrides(model, None, kernel)
    assert overrides.count == sum(type(module) is nn.Linear for module in model.modules())
    with overrides.active():
        assert isinstance(layer.mlp, GatedBlock)
        assert isinstance(layer.self_attn.q_proj, PanelLinear)
        assert isinstance(model.lm_head, PanelLinear)
    assert layer.mlp is block
    assert layer.self_attn.q_proj is own


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_kernel_tokens_are_the_same(kind, monkeypatch):
    model, tokenizer = pair(kind)
    requests = [GenerateRequest(prompt, 12, frozenset()) for prompt in random_prompts(9)]
    engine = Engine(model, tokenizer)
    assert engine.describe()["linears"].startswith("compiled kernel")
    found = engine.generate(requests)
    monkeypatch.setattr("dasd_bench.engine.model_runner.load_linear_kernel", lambda device, dtype: None)
    engine = Engine(model, tokenizer)
    assert engine.describe()["linears"].startswith("onednn-packed")
    for mine, other in zip(found, engine.generate(requests), strict=True):
        assert mine.token_ids.tolist() == other.token_ids.tolist()


def test_no_kernel_where_it_does_not_fit(monkeypatch):
    assert load_linear_kernel(torch.device("meta"), torch.float32) is None
    assert load_linear_kernel(torch.device("cpu"), torch.float16) is None
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert load_linear_kernel(torch.device("cpu"), torch.float32) is None


def test_what_does_not_fit_is_left_to_onednn(kernel):
    packer = Packer(kernel)
    assert isinstance(packer.linear(nn.Linear(7, 4)), PanelLinear)
    assert isinstance(packer.linear(nn.Linear(7, 4, dtype=torch.bfloat16)), PackedLinear)


def test_other_dtypes_and_widths_are_refused(kernel):
    panels = pack(numbers(8, 6), None)
    with pytest.raises(RuntimeError, match="rows of 6"):
        kernel(numbers(2, 6).bfloat16(), panels)
    with pytest.raises(RuntimeError, match="rows of 5"):
        kernel(numbers(2, 5), panels)
