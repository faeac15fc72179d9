"""The product over rows of a thin and a wide matrix against float64; no number depends on the threads."""

from __future__ import annotations

import pytest
import torch

from dasd_bench.engine.kernels.thin import ThinKernel, load_thin_kernel

DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(params=DTYPES, ids=["fp32", "bf16"])
def kernel(request) -> tuple[ThinKernel, torch.dtype]:
    found = load_thin_kernel(torch.device("cpu"), request.param)
    if found is None:
        pytest.skip("no C++ compiler here")
    return found, request.param


@pytest.mark.parametrize("rows", [1, 7, 256, 700])
@pytest.mark.parametrize(("thin", "wide"), [(1, 32), (8, 96), (16, 576), (13, 50), (64, 31), (3, 1)])
def test_equals_the_product_in_float64(kernel, rows, thin, wide):
    product, dtype = kernel
    generator = torch.Generator().manual_seed(rows)
    a = torch.randn(rows, thin, generator=generator).to(dtype)
    b = torch.randn(rows, wide, generator=generator).to(dtype)
    found, wanted = product(a, b), a.double().t() @ b.double()
    assert found.dtype == torch.float32
    assert found.shape == (thin, wide)
    assert float((found - wanted).abs().max()) <= 1e-5 * rows**0.5 + 1e-6


def test_the_number_of_threads_changes_nothing(kernel):
    product, dtype = kernel
    a, b = torch.randn(900, 16), torch.randn(900, 1536).to(dtype)
    before = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(product(a, b))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_columns_of_a_larger_matrix_and_no_rows(kernel):
    product, dtype = kernel
    whole = torch.randn(40, 128).to(dtype)
    part = whole[:, 32:96]
    a = torch.randn(40, 4)
    torch.testing.assert_close(product(a, part), a.t() @ part.float(), rtol=1e-4, atol=1e-4)
    assert torch.equal(product(a[:0], whole[:0]), torch.zeros(4, 128))
