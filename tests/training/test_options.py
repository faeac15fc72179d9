"""Early stopping and 4-bit bases: what they promise, held against the plain trainer."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM

from dasd_bench.config.training import TrainingConfig
from dasd_bench.errors import TrainingError, UsageError
from dasd_bench.training import checks as module
from dasd_bench.training.batching import held_out
from dasd_bench.training.checks import check_quantization
from dasd_bench.training.quantize import is_quantized, plain_weight, quantize
from dasd_bench.types import TrainExample
from tests.training.helpers import RULES, make_examples, metrics, run, soft_model
from tests.training.test_resume import adapter_bytes, stopped

STOP = {"early_stop_patience": 2, "early_stop_steps": 1, "epochs": 20, "lr": 3e-2}


def two_sets() -> tuple[list[TrainExample], list[TrainExample]]:
    """Twelve examples to train on and four held out."""
    examples = make_examples(16, seed=3)
    return examples[:12], [replace(e, weights=np.ones_like(e.weights)) for e in examples[12:]]


def test_early_stopping_keeps_the_best_adapter(tmp_path: Path) -> None:
    """Random rows cannot be learned for others: the held-out nll soon rises."""
    examples, held = two_sets()
    result = run(soft_model("llama"), examples, tmp_path, held_out=held, **STOP)
    lines = metrics(tmp_path)
    seen = [line["held_out_nll"] for line in lines]
    assert result.best_loss == min(seen)
    assert result.best_step == 1 + seen.index(min(seen))
    assert result.steps == len(lines) == result.best_step + 2 < 60
    assert list(result.held_out) == [e.example_id for e in held]
    # The saved adapter is that of the best step: its nll on the held-out references, by hand.
    loaded = PeftModel.from_pretrained(soft_model("llama"), str(result.adapter_dir)).eval()
    total = tokens = 0.0
    for e in held:
        ids = torch.tensor([*e.prompt_ids, *e.target_ids])
        with torch.no_grad():
            logp = torch.log_softmax(loaded(input_ids=ids[None]).logits[0].double(), dim=-1)
        for t, label in enumerate(e.target_ids):
            total -= float(logp[len(e.prompt_ids) + t - 1, int(label)])
            tokens += 1
    assert total / tokens == pytest.approx(result.best_loss, rel=1e-5)


def test_held_out_references_have_no_part_in_training(tmp_path: Path) -> None:
    """Other references, the same training losses."""
    examples, held = two_sets()
    changed = [replace(e, target_ids=e.target_ids[::-1].copy()) for e in held]
    for name, rows in (("a", held), ("b", changed)):
        more = STOP | {"early_stop_patience": 100, "epochs": 2}
        run(soft_model("llama"), examples, tmp_path / name, held_out=rows, **more)
    a, b = metrics(tmp_path / "a"), metrics(tmp_path / "b")
    assert [line["loss"] for line in a] == [line["loss"] for line in b]
    assert [line["held_out_nll"] for line in a] != [line["held_out_nll"] for line in b]
    assert sum(line["all_tokens"] for line in a) == 2 * sum(len(e.target_ids) for e in examples)


def test_every_arm_is_stopped_by_the_same_measure(tmp_path: Path) -> None:
    """An online rule, other targets, other weights: the same nll of the same references."""
    examples, held = two_sets()
    other = [replace(e, target_ids=e.target_ids[::-1].copy(), weights=e.weights * 0.3) for e in examples]
    arms = {"sft": (examples, None), "dft": (examples, RULES["dft"]), "other": (other, None)}
    for name, (rows, method) in arms.items():
        more = STOP | {"lr": 0.0, "epochs": 1}
        run(soft_model("llama"), rows, tmp_path / name, method, held_out=held, **more)
    first = [metrics(tmp_path / name)[0]["held_out_nll"] for name in arms]
    assert len(set(first)) == 1


def test_a_stopped_early_run_resumes_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples, held = two_sets()
    # Some that are trained on, so that the nll falls for a while.
    held = [*examples[:2], *held]
    changes = STOP | {"checkpoint_steps": 2, "lr": 1e-2}
    whole = run(soft_model("llama"), examples, tmp_path / "whole", held_out=held, **changes)
    assert whole.best_step is not None
    assert whole.best_step >= 2
    # Stopped after the best step: the best weights come from the checkpoint.
    with stopped(whole.best_step + 1, monkeypatch):
        run(soft_model("llama"), examples, tmp_path / "cut", held_out=held, **changes)
    again = run(soft_model("llama"), examples, tmp_path / "cut", held_out=held, **changes)
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")
    assert (again.best_step, again.best_loss, again.steps) == (whole.best_step, whole.best_loss, whole.steps)


def test_early_stopping_needs_two_examples(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="there is only one"):
        held_out(1, 0.1, 0)
    with pytest.raises(TrainingError, match="none of 0 fits"):
        run(soft_model("llama"), make_examples(2), tmp_path, early_stop_patience=1)
    assert len(held_out(2, 0.9, 0)) == 1
    assert len(held_out(10, 0.0, 0)) == 1


def test_qlora_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'dasd-bench\[qlora\]'"):
        check_quantization(TrainingConfig(qlora=True))
    check_quantization(TrainingConfig())


def small_llama() -> LlamaForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=300, num_key_value_heads=2, initializer_range=0.1, **sizes))
    return model.eval()


@pytest.mark.parametrize("targets", ["all-linear", "q_proj,down_proj"])
def test_qlora_trains_as_lora_on_the_same_rounded_base(targets: str, tmp_path: Path) -> None:
    """A base in 4 bits, against plain layers that hold the very weights those 4 bits stand for."""
    pytest.importorskip("bitsandbytes")
    packed, rounded = small_llama(), small_llama()
    quantize(packed, torch.device("cpu"))
    layers = {name: m for name, m in packed.named_modules() if is_quantized(m)}
    assert len(layers) == 14
    with torch.no_grad():
        for name, layer in layers.items():
            rounded.get_submodule(name).weight.copy_(plain_weight(layer))
    examples = make_examples(8, seed=3)
    changes = {"lr": 1e-2, "epochs": 3, "lora_targets": targets}
    result = run(packed, examples, tmp_path / "packed", **changes)
    run(rounded, examples, tmp_path / "rounded", **changes)
    a, b = ([line["loss"] for line in metrics(tmp_path / name)] for name in ("packed", "rounded"))
    assert a == pytest.approx(b, rel=1e-5)
    assert a[-1] < a[0]
    loaded = PeftModel.from_pretrained(small_llama(), str(result.adapter_dir))
    assert math.isfinite(float(loaded(input_ids=torch.arange(20, 40)[None]).logits.sum()))
