"""Parameter counts from configurations alone, against transformers' own models on the meta device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from dasd_bench.errors import ModelError
from dasd_bench.models.aliases import BUILT_IN
from dasd_bench.models.files import read_model_config, safetensors_parameters
from dasd_bench.resources.shapes import ALIASES, shape_of_alias, shape_of_config, shape_of_model


def meta_model(config: dict[str, Any]) -> Any:
    """transformers' model of a configuration, without weights."""
    fields = {key: value for key, value in config.items() if key != "model_type"}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **fields))


@pytest.mark.parametrize(
    "name", ["llama3-8b", "gemma2-9b", "qwen3-8b", "smollm2-135m", "qwen2.5-7b", "gemma3-270m", "llama3.2-1b"]
)
def test_counts_are_those_of_transformers(name: str) -> None:
    model = meta_model(ALIASES[name])
    shape = shape_of_config(ALIASES[name])
    linears = [m for m in model.model.modules() if type(m) is torch.nn.Linear]
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.linear == sum(p.numel() for m in linears for p in m.parameters())
    assert shape.head == model.lm_head.weight.numel()


@pytest.mark.parametrize("biased", ["attention_bias", "mlp_bias"])
def test_biases_are_counted(biased: str) -> None:
    config = ALIASES["llama3.2-1b"] | {biased: True}
    assert shape_of_config(config).parameters == sum(p.numel() for p in meta_model(config).parameters())


def test_every_alias_has_the_published_number_of_parameters() -> None:
    for alias in BUILT_IN.values():
        shape = shape_of_alias(alias)
        assert shape is not None, alias.name
        assert shape.parameters / 1e9 == pytest.approx(alias.parameters_billion, rel=0.03), alias.name


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "gemma3"])
def test_a_folder_gives_the_same_by_configuration_and_by_weights(kind: str, tiny_folder: Callable[[str], Path]) -> None:
    folder = tiny_folder(kind)
    config = read_model_config(folder)
    assert shape_of_config(config) == shape_of_config(config, safetensors_parameters(folder))
    assert shape_of_model(str(folder)) == shape_of_config(config)


def test_an_unknown_family_is_said() -> None:
    with pytest.raises(ModelError, match="type 'nova' cannot be estimated without its weights"):
        shape_of_config(ALIASES["llama3-8b"] | {"model_type": "nova"})
