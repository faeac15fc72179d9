"""How far each method is from its independent reference: runs the exactness tests and prints the deviations they see.

    python benchmarks/exactness.py [-k EXPRESSION]

A deviation is the largest of |got - wanted| / max(1, |wanted|) over all numbers that a test compares with
``pytest.approx`` or ``torch.allclose``, and over all its parameters; tests of discrete decisions (which token, which
target) have none, and pass or fail.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
TESTS = [
    "tests/methods/test_methods.py",
    "tests/methods/test_loss_methods.py",
    "tests/methods/test_target_methods.py",
    "tests/methods/test_gate_rules.py",
    "tests/methods/test_divergences.py",
    "tests/training/test_exactness.py",
    "tests/training/test_token_losses.py",
    "tests/training/test_batch_scope.py",
]


class Recorder:
    """A pytest plugin that keeps the largest deviation of every test, by its name without parameters of no method."""

    def __init__(self) -> None:
        self.test = ""
        self.found: dict[str, tuple[int, float]] = {}
        self.outcomes: dict[str, str] = {}
        approx, allclose = pytest.approx, torch.allclose

        def recording_approx(wanted: Any, *args: Any, **options: Any) -> Any:
            inner = approx(wanted, *args, **options)

            class Recording:
                __hash__ = None  # type: ignore[assignment]

                def __eq__(self, got: object) -> bool:
                    recorder.see(got, wanted)
                    return bool(got == inner)

                def __repr__(self) -> str:
                    return repr(inner)

            return Recording()

        def recording_allclose(got: torch.Tensor, wanted: torch.Tensor, **options: Any) -> bool:
            recorder.see(got.tolist(), wanted.tolist())
            return bool(allclose(got, wanted, **options))

        recorder = self
        pytest.approx = recording_approx  # type: ignore[assignment]
        torch.allclose = recording_allclose

    def see(self, got: object, wanted: object) -> None:
        pairs = list(zip(_numbers(got), _numbers(wanted), strict=False))
        worst = max((abs(a - b) / max(1.0, abs(b)) for a, b in pairs), default=0.0)
        count, before = self.found.get(self.test, (0, 0.0))
        self.found[self.test] = (count + len(pairs), max(before, worst))

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self.test = item.nodeid.partition("::")[2]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid.partition("::")[2]] = report.outcome


def _numbers(values: object) -> Iterable[float]:
    if isinstance(values, (list, tuple)):
        for one in values:
            yield from _numbers(one)
    elif isinstance(values, dict):
        yield from _numbers(list(values.values()))
    elif hasattr(values, "tolist"):
        yield from _numbers(values.tolist())
    else:
        yield float(values)  # type: ignore[arg-type]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", default="", metavar="EXPRESSION", help="only these tests, as pytest -k")
    args = parser.parse_args()
    recorder = Recorder()
    paths = [str(ROOT / one) for one in TESTS]
    code = pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", "-k", args.k, *paths], plugins=[recorder])
    print(f"{'numbers':>9}  {'deviation':>9}  {'outcome':8} test")
    for test, outcome in recorder.outcomes.items():
        count, worst = recorder.found.get(test, (0, 0.0))
        print(f"{count or '-':>9}  {f'{worst:.1e}' if count else '-':>9}  {outcome:8} {test}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
