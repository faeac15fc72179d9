"""The compiled kernel of the decoding step against plain torch, and the engine without it."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from dasd_bench.engine.attention import Scale
from dasd_bench.engine.engine import Engine
from dasd_bench.engine.kernels.build import load
from dasd_bench.engine.kernels.decode import load_decode_kernel
from dasd_bench.engine.requests import EngineSettings, GenerateRequest
from tests.engine.conftest import KINDS, pair, random_prompts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("groups", "repeat", "dim"), [(3, 3, 64), (2, 1, 16), (1, 7, 128), (2, 5, 256)])
@pytest.mark.parametrize(("softcap", "window"), [(None, None), (3.0, None), (None, 10)])
@pytest.mark.parametrize(("width", "common"), [(1, [0] * 6), (2, [0, 1, 0, 20, 0, 33]), (3, [0, 1, 0, 0, 32, 32])])
def test_kernel_equals_softmax_over_each_row(dtype, groups, repeat, dim, softcap, window, width, common):
    kernel = load_decode_kernel(torch.device("cpu"), dtype, dim)
    if kernel is None:
        pytest.skip("no C++ compiler here")
    torch.manual_seed(0)
    lengths = torch.tensor([1, 1, 31, 32, 33, 70])
    rows, capacity = len(lengths), 80
    keys = torch.randn(rows + 1, groups, capacity, dim).to(dtype)
    values = torch.randn(rows + 1, groups, capacity, dim).to(dtype)
    query = torch.randn(rows, groups * repeat, dim).to(dtype)
    key, value = torch.randn(2, rows, groups, dim).to(dtype)
    how = Scale(0.3, softcap, window)
    # Nothing that a row has in common with the first of its item may be read in the row itself.
    held_keys, held_values = keys.clone(), values.clone()
    for row, count in enumerate(common):
        leader = row // width * width
        for held, full in ((held_keys, keys), (held_values, values)):
            full[row, :, :count] = full[leader, :, :count]
            held[row, :, :count] = float("nan")
    out, lse = kernel(query, key, value, held_keys, held_values, lengths, how, torch.tensor(common), width)
    for row, length in enumerate(lengths.tolist()):
        keys[row, :, length], values[row, :, length] = held_keys[row, :, length], held_values[row, :, length]
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(keys[row, :, length], key[row])
        assert torch.equal(values[row, :, length], value[row])
        first = max(0, length + 1 - window) if window else 0
        seen = keys[row, :, first : length + 1].double().repeat_interleave(repeat, 0)
        scores = (seen @ query[row].double().unsqueeze(-1)).squeeze(-1) * how.scaling
        if softcap:
            scores = torch.tanh(scores / softcap) * softcap
        mixed = scores.softmax(-1).unsqueeze(1) @ values[row, :, first : length + 1].double().repeat_interleave(
            repeat, 0
        )
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        np.testing.assert_allclose(out[row].double(), mixed.squeeze(1), atol=tolerance)
        np.testing.assert_allclose(lse[row].double(), scores.logsumexp(-1), atol=1e-5, rtol=1e-5)


def test_kernel_keeps_nan():
    kernel = load_decode_kernel(torch.device("cpu"), torch.float32, 16)
    if kernel is None:
        pytest.skip("no C++ compiler here")
    store = torch.zeros(1, 1, 8, 16), torch.zeros(1, 1, 8, 16)
    query = torch.full((1, 1, 16), float("nan"))
    new = torch.ones(1, 1, 16)
    out, _ = kernel(query, new, new, *store, torch.tensor([3]), Scale(1.0, None, None), torch.tensor([0]))
    assert torch.isnan(out).all()


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_compiler_the_results_are_the_same(kind, monkeypatch):
    model, tokenizer = pair(kind)
    shots = random_prompts(1, seed=5, low=200, high=201)[0]
    prompts = [shots + own for own in random_prompts(5, seed=6)] + random_prompts(6, seed=7)
    asked = [GenerateRequest(p, 20, frozenset(range(20))) for p in prompts]
    with_kernel = Engine(model, tokenizer, EngineSettings(max_num_seqs=4)).generate(asked)
    monkeypatch.setenv("CXX", "/no/such/compiler")
    engine = Engine(model, tokenizer, EngineSettings(max_num_seqs=4))
    assert engine.describe()["decode"] == "torch"
    for one, other in zip(with_kernel, engine.generate(asked), strict=True):
        assert one.token_ids.tolist() == other.token_ids.tolist()
        np.testing.assert_allclose(one.logp, other.logp, atol=2e-4)


def test_two_that_need_a_kernel_at_once_have_it_compiled_once(tmp_path, monkeypatch):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    wrapper = tmp_path / "counted"
    counted = f'case "$*" in *layers.cpp*) echo once >> {tmp_path}/calls; sleep 0.5;; esac'
    wrapper.write_text(f'#!/bin/sh\n{counted}\nexec {compiler} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", str(wrapper))
    monkeypatch.setenv("DASD_CACHE_DIR", str(tmp_path / "cache"))
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: load("layers", torch.device("cpu"), torch.float32), range(3)))
    assert all(one is not None for one in found)
    assert (tmp_path / "calls").read_text() == "once\n"
