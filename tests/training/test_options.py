"""Early stopping and 4-bit bases: what they promise, held against the plain trainer."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM

from dasd_bench.config.training import TrainingConfig
from dasd_bench.errors import TrainingError, UsageError
from dasd_bench.training import quantize as module
from dasd_bench.training.batching import held_out
from dasd_bench.training.checks import check_quantization
from dasd_bench.training.quantize import is_quantized, plain_weight, quantize
from tests.training.helpers import RULES, make_examples, metrics, run, soft_model
from tests.training.test_resume import adapter_bytes, stopped

STOP = {"early_stop_patience": 2, "early_stop_steps": 1, "held_out": 0.25, "epochs": 20, "lr": 3e-2}


def test_early_stopping_keeps_the_best_adapter(tmp_path: Path) -> None:
    """Random rows cannot be learned for others: the held-out loss soon rises."""
    examples = make_examples(16, seed=3)
    model = soft_model("llama")
    result = run(model, examples, tmp_path, **STOP)
    lines = metrics(tmp_path)
    seen = [line["held_out_loss"] for line in lines]
    assert result.best_loss == min(seen)
    assert result.best_step == 1 + seen.index(min(seen))
    assert result.steps == len(lines) == result.best_step + 2 < 60
    assert len(result.held_out) == 4
    assert set(result.held_out) == {f"t/train/{i}" for i in held_out(16, 0.25, 0)}
    # The saved adapter is that of the best step: its loss on the held-out rows, by hand.
    loaded = PeftModel.from_pretrained(soft_model("llama"), str(result.adapter_dir)).eval()
    total = weight = 0.0
    for e in (examples[i] for i in held_out(16, 0.25, 0)):
        ids = torch.tensor([*e.prompt_ids, *e.target_ids])
        with torch.no_grad():
            logp = torch.log_softmax(loaded(input_ids=ids[None]).logits[0].double(), dim=-1)
        for t, label in enumerate(e.target_ids):
            total -= float(e.weights[t] * logp[len(e.prompt_ids) + t - 1, int(label)])
            weight += float(e.weights[t])
    assert total / weight == pytest.approx(result.best_loss, rel=1e-5)


def test_held_out_examples_have_no_part_in_training(tmp_path: Path) -> None:
    """Other targets there, the same training losses."""
    examples = make_examples(16, seed=3)
    changed = [
        replace(e, target_ids=e.target_ids[::-1].copy()) if i in held_out(16, 0.25, 0) else e
        for i, e in enumerate(examples)
    ]
    for name, rows in (("a", examples), ("b", changed)):
        run(soft_model("llama"), rows, tmp_path / name, **STOP | {"early_stop_patience": 100, "epochs": 2})
    a, b = metrics(tmp_path / "a"), metrics(tmp_path / "b")
    assert [line["loss"] for line in a] == [line["loss"] for line in b]
    assert [line["held_out_loss"] for line in a] != [line["held_out_loss"] for line in b]
    assert sum(line["all_tokens"] for line in a) == 2 * sum(
        len(e.target_ids) for i, e in enumerate(examples) if i not in held_out(16, 0.25, 0)
    )


def test_an_online_rule_is_stopped_by_the_same_measure(tmp_path: Path) -> None:
    run(soft_model("llama"), make_examples(16, seed=3), tmp_path / "sft", **STOP | {"lr": 0.0, "epochs": 1})
    run(
        soft_model("llama"),
        make_examples(16, seed=3),
        tmp_path / "dft",
        RULES["dft"],
        **STOP | {"lr": 0.0, "epochs": 1},
    )
    first = [metrics(tmp_path / name)[0]["held_out_loss"] for name in ("sft", "dft")]
    assert first[0] == first[1]


def test_a_stopped_early_run_resumes_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = make_examples(16, seed=3)
    changes = STOP | {"checkpoint_steps": 2}
    whole = run(soft_model("llama"), examples, tmp_path / "whole", **changes)
    assert whole.best_step is not None
    assert whole.best_step >= 2
    # Stopped after the best step: the best weights come from the checkpoint.
    with stopped(whole.best_step + 1, monkeypatch):
        run(soft_model("llama"), examples, tmp_path / "cut", **changes)
    again = run(soft_model("llama"), examples, tmp_path / "cut", **changes)
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")
    assert (again.best_step, again.best_loss, again.steps) == (whole.best_step, whole.best_loss, whole.steps)


def test_early_stopping_needs_two_examples(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="there is only one"):
        run(soft_model("llama"), make_examples(1), tmp_path, early_stop_patience=1)
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
