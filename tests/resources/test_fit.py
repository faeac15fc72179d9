"""Training falls back step by step as memory shrinks, and refuses in one sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dasd_bench.config.training import TrainingConfig
from dasd_bench.errors import ModelError, TrainingError
from dasd_bench.resources.fit import TrainingFit, check_engine, check_training, fit_training, fits
from dasd_bench.resources.needs import EngineLoad, TrainingLoad
from dasd_bench.resources.shapes import ALIASES, shape_of_config

LLAMA = shape_of_config(ALIASES["llama3-8b"])
GIB = 2**30


def load(**changes: object) -> TrainingLoad:
    """Rows of at most 700 tokens."""
    return TrainingLoad(TrainingConfig(**changes), longest=700, batch_tokens=8 * 700)  # type: ignore[arg-type]


def test_the_fallbacks_come_in_order() -> None:
    seen: list[TrainingFit] = []
    for free in range(70, 15, -1):
        fit, _ = fit_training(LLAMA, load(), 2, free * GIB, packs=True)
        if not seen or fit != seen[-1]:
            seen.append(fit)
    assert seen[0] == TrainingFit(packed=True, checkpointing=False, microbatch=1024)
    assert seen[-1] == TrainingFit(packed=False, checkpointing=True, microbatch=700)
    assert [fit.packed for fit in seen] == sorted((fit.packed for fit in seen), reverse=True)


@given(free=st.integers(8, 80), longest=st.integers(1, 4000), checkpointing=st.booleans(), packs=st.booleans())
def test_what_fits_is_never_refused_and_what_does_not_always_is(
    free: int, longest: int, checkpointing: bool, packs: bool
) -> None:
    asked = TrainingLoad(TrainingConfig(gradient_checkpointing=checkpointing), longest, 8 * longest)
    fit, need = fit_training(LLAMA, asked, 2, free * GIB, packs=packs)
    assert packs or not fit.packed
    if fits(need, free * GIB):
        assert check_training(LLAMA, asked, 2, free * GIB, packs=packs) == fit
    else:
        with pytest.raises(TrainingError):
            check_training(LLAMA, asked, 2, free * GIB, packs=packs)


def test_the_refusals_say_need_supply_and_change() -> None:
    with pytest.raises(TrainingError) as refused:
        check_training(LLAMA, load(), 4, 22 * GIB, packs=True)
    text = str(refused.value)
    assert "Training needs 31." in text
    assert "weights 29.9 GiB" in text
    assert "22.0 GiB is available" in text
    assert "--dtype bf16" in text
    with pytest.raises(ModelError, match=r"Stage 'score' needs .* 10.0 GiB is available; use a smaller model"):
        check_engine(LLAMA, EngineLoad(1, 100, 0), 2, 10 * GIB, "Stage 'score'")
    check_engine(LLAMA, EngineLoad(64, 1000, 500), 2, 20 * GIB, "Stage 'targets'")


def test_all_weights_are_told_of_lora() -> None:
    with pytest.raises(TrainingError, match="use LoRA"):
        check_training(LLAMA, load(lora_rank=0), 4, 80 * GIB, packs=True)
