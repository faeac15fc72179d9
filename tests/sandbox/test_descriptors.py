"""The number of the descriptor that a parent hands to its sandbox does not matter."""

from __future__ import annotations

import os

import pytest

from dasd_bench.sandbox.launch import WorkerProcess
from dasd_bench.sandbox.model import IsolationLevel, Limits


@pytest.mark.parametrize("number", [40, 41, 42, 63])
def test_any_descriptor_will_do(number: int) -> None:
    held = []
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) < number - 1:
        held.append(descriptor)
    os.close(descriptor)
    if descriptor != number - 1:
        pytest.skip("this process holds so many files that the number is taken")
    try:
        # Its socket pair takes the two lowest free numbers.
        process = WorkerProcess(IsolationLevel.RLIMITS, Limits(), [])
    finally:
        for descriptor in held:
            os.close(descriptor)
    process.wait()
    assert process.alive
    process.close()
