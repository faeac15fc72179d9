"""What the finished adapter is: plain peft, the same logits, no trace of this machine; and the bfloat16 trap."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

from dasd_bench.errors import TrainingError
from dasd_bench.training.linear import FrozenWeight, frozen_forward
from tests.tiny_models import KINDS, Kind, tiny_model
from tests.training.helpers import make_examples, metrics, run, soft_model

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{}, {"dora": True}, {"rslora": True, "lora_targets": "q_proj,down_proj"}])
def test_adapter_loads_in_plain_peft_with_the_same_logits(
    kind: Kind, changes: dict[str, object], tmp_path: Path
) -> None:
    trained = soft_model(kind)
    result = run(trained, make_examples(8), tmp_path, lr=1e-2, **changes)
    ids = torch.from_numpy(np.random.default_rng(0).integers(10, 300, (1, 30)))
    loaded = PeftModel.from_pretrained(soft_model(kind), str(result.adapter_dir)).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=ids).logits, trained.eval()(input_ids=ids).logits)
        assert not torch.allclose(loaded(input_ids=ids).logits, soft_model(kind)(input_ids=ids).logits, atol=1e-3)


def test_adapter_config_names_the_base_and_no_path(tmp_path: Path) -> None:
    result = run(tiny_model("llama"), make_examples(8), tmp_path)
    text = (result.adapter_dir / "adapter_config.json").read_text()
    fields = json.loads(text)
    assert fields["base_model_name_or_path"] == "org/base"
    assert fields["target_modules"] == sorted(fields["target_modules"])
    assert str(tmp_path) not in text
    assert sorted(path.name for path in result.adapter_dir.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert {t.dtype for t in load_file(result.adapter_dir / "adapter_model.safetensors").values()} == {torch.float32}


def test_a_target_that_matches_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"'q_prj' matches no linear layer.*Did you mean 'q_proj'.*down_proj"):
        run(tiny_model("llama"), make_examples(4), tmp_path, lora_targets="q_prj,v_proj")


def test_full_fine_tuning_trains_every_weight(tmp_path: Path) -> None:
    model = soft_model("qwen3")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    result = run(model, make_examples(8), tmp_path, lora_rank=0, lr=1e-3, weight_decay=0.1)
    assert all(not torch.equal(before[name], p) for name, p in model.named_parameters())
    reloaded = type(model).from_pretrained(result.adapter_dir)
    ids = torch.arange(20, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(reloaded(input_ids=ids).logits, model.eval()(input_ids=ids).logits)
    assert str(tmp_path) not in (result.adapter_dir / "config.json").read_text()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_frozen_layer_equals_the_plain_one(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(37, 53, bias=bias, dtype=dtype).requires_grad_(False)
    x = torch.randn(3, 11, 37, dtype=dtype, requires_grad=True)
    y = frozen_forward(layer)(x)
    wanted = layer(x)
    grad = torch.randn_like(wanted)
    torch.testing.assert_close(y, wanted)
    (got,) = torch.autograd.grad(y, x, grad)
    (plain,) = torch.autograd.grad(wanted, x, grad)
    torch.testing.assert_close(got, plain)


def test_small_updates_survive_bfloat16() -> None:
    """The trap: an update below half a step of the bfloat16 grid vanishes where the base's output is rounded first."""
    torch.manual_seed(0)
    layer = nn.Linear(256, 256, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    x = torch.randn(512, 256, dtype=torch.bfloat16)
    exact = x.double() @ layer.weight.double().t()
    update = (exact.abs() * 2**-10).to(torch.bfloat16)
    with torch.no_grad():
        fused = FrozenWeight(layer).forward(x, update).double()
        rounded_first = (layer(x) + update).double()
    wanted = float(update.double().mean())
    assert float((fused - exact).mean()) == pytest.approx(wanted, rel=0.1)
    assert abs(float((rounded_first - layer(x).double()).mean())) < 0.1 * wanted


def test_bfloat16_base_learns_as_float32_does(tmp_path: Path) -> None:
    """Small steps, so that most updates of a layer's output lie below the bfloat16 grid."""
    falls = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = soft_model("llama").to(dtype)
        out = tmp_path / str(dtype)
        run(model, make_examples(8, seed=1), out, lr=3e-4, epochs=8, batch_size=8)
        losses = [line["loss"] for line in metrics(out)]
        falls[dtype] = losses[0] - losses[-1]
    assert falls[torch.bfloat16] == pytest.approx(falls[torch.float32], rel=0.1)
    assert falls[torch.float32] > 0
