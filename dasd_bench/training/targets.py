"""Which layers of a model LoRA is put on, and what is left as it was."""

from __future__ import annotations

import re
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from dasd_bench.errors import TrainingError, did_you_mean
from dasd_bench.training.quantize import is_quantized

ALL_LINEAR = "all-linear"

_MAMBA_TYPES = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
_MAMBA_KERNEL_LAYERS = ("out_proj", "conv1d")
"""Layers whose weights Mamba's fused kernels read past an adapter, so that peft refuses them."""

_LEAST_SHARE = 0.005
"""The share of a model's weights from which layers without an adapter are worth a sentence."""


def lora_targets(model: Any, wanted: str) -> str | list[str]:
    """peft's ``target_modules`` for what the user named: ``all-linear`` or names separated by commas.

    Raises :class:`TrainingError` for a name that no layer has, or that peft cannot adapt.
    """
    head = model.get_output_embeddings()
    linear = {name: module for name, module in model.named_modules() if _adaptable(module)}
    refused = {name for name in linear if _kernel_reads(model, name)}
    if wanted.strip() == ALL_LINEAR:
        chosen = [name for name, module in linear.items() if module is not head and name not in refused]
        # peft's own all-linear takes routers that are linear layers by inheritance and give more than a product.
        subclasses = [m for m in model.modules() if isinstance(m, nn.Linear) and not _adaptable(m)]
        return chosen if refused or subclasses else ALL_LINEAR
    known = sorted({name.rsplit(".", 1)[-1] for name in linear if name not in refused})
    names = sorted({part.strip() for part in wanted.split(",") if part.strip()})
    for name in names:
        matched = [full for full in linear if full == name or full.endswith(f".{name}")]
        if not matched:
            raise TrainingError(
                f"LoRA target '{name}' matches no linear layer of this model.{did_you_mean(name, known)} "
                f"Its layers: {', '.join(known)}; or use all-linear."
            )
        if refused & set(matched):
            raise TrainingError(
                f"LoRA target '{name}' cannot be adapted: the kernels of {type(model).__name__} read its weights "
                f"directly; use some of: {', '.join(known)}."
            )
    if not names:
        raise TrainingError(f"No LoRA target was named; use all-linear or some of: {', '.join(known)}.")
    return names


def transposed(model: nn.Module, targets: str | list[str]) -> bool:
    """True where the layers that are adapted keep their weights as [in, out], as GPT-2's ``Conv1D`` does."""
    layers = {name: module for name, module in model.named_modules() if _adaptable(module)}
    if not isinstance(targets, str):
        layers = {
            full: module
            for full, module in layers.items()
            if any(full == name or full.endswith(f".{name}") for name in targets)
        }
    return any(isinstance(module, Conv1D) for module in layers.values())


def untrained_sentence(model: Any) -> str | None:
    """What ``all-linear`` left without an adapter, in one sentence; None where it is next to nothing.

    Embeddings, the vocabulary head and vectors are left out by all, and not counted.
    """
    causal: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = causal.get_output_embeddings()
    left_out_by_all = {id(m.weight) for m in causal.modules() if isinstance(m, nn.Embedding) or m is head}
    layers: list[Any] = [module for module in causal.modules() if isinstance(module, LoraLayer)]
    # An adapter on a block of experts changes one of its parameters, all others a layer's weight.
    adapted = {id(m.get_param() if isinstance(m, ParamWrapper) else m.get_base_layer().weight) for m in layers}
    total = 0
    left: dict[str, int] = {}
    for name, parameter in causal.named_parameters():
        if ".lora_" in name or id(parameter) in left_out_by_all or parameter.dim() < 2:
            continue
        total += parameter.numel()
        if id(parameter) not in adapted:
            kind = re.sub(r"^.*?\.\d+\.", "", name.replace(".base_layer", "")).removesuffix(".weight")
            left[kind] = left.get(kind, 0) + parameter.numel()
    share = sum(left.values()) / total if total else 0.0
    if share < _LEAST_SHARE:
        return None
    largest = sorted(left, key=lambda kind: -left[kind])
    named = ", ".join(largest[:4]) + (f" and {len(largest) - 4} more" if len(largest) > 4 else "")
    return (
        f"LoRA on all-linear leaves {share:.0%} of the layers' weights untrained, those of {named}; name layers with "
        "training.lora_targets to choose others."
    )


def _adaptable(module: nn.Module) -> bool:
    """True for a linear layer, of whatever class, that gives rows of its output width and nothing else."""
    if type(module) in (nn.Linear, Conv1D) or is_quantized(module):
        return True
    if not isinstance(module, nn.Linear) or not type(module).__module__.startswith("transformers."):
        return False
    rows = module.weight.new_zeros(1, 1, module.in_features)
    try:
        with torch.no_grad():
            found = module(rows)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False
    return isinstance(found, Tensor) and found.shape == (1, 1, module.out_features)


def _kernel_reads(model: Any, name: str) -> bool:
    return model.config.model_type in _MAMBA_TYPES and name.rsplit(".", 1)[-1] in _MAMBA_KERNEL_LAYERS
